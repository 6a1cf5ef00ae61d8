#!/usr/bin/env python3
"""Stands in for `criu swrk 3`: speaks its RPC, kills what it "dumps" and starts a program as what it "restores".

usage: fake_criu.py MODE swrk 3     MODE: ok, old, fail, rubbish, silent

What it was asked for is left as request.json in the images' folder."""
import ctypes
import json
import os
import signal
import socket
import sys

DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURES, VERSION = 1, 2, 4, 6, 9, 10
TEXTS = {10, 13, 14, 37, 44, 51, 53}
PAIRS = {11, 23, 25, 27, 39}
CLONE_PARENT, SYS_CLONE = 0x8000, 56


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7f) << shift
        shift += 7
        at += 1
        if not data[at - 1] & 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at:at + value], at + value
        yield tag >> 3, value


def number(field, value):
    out = b""
    for v in (field << 3, value):
        while v > 0x7f:
            out += bytes([v & 0x7f | 0x80])
            v >>= 7
        out += bytes([v])
    return out


def bytes_of(field, data):
    return bytes([field << 3 | 2, len(data)]) + data


def response(kind, success=True, rest=b""):
    return number(1, kind) + number(2, int(success)) + rest


def options(data):
    said = {}
    for field, value in fields(data):
        if field in PAIRS:
            value = [v.decode() if isinstance(v, bytes) else v for _, v in fields(value)]
        elif field in TEXTS:
            value = value.decode()
        said.setdefault(str(field), []).append(value)
    return said


class Criu:
    def __init__(self, mode):
        self.mode, self.sock = mode, socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=3)

    def notify(self, script, pid):
        self.sock.send(response(NOTIFY, rest=bytes_of(5, bytes_of(1, script.encode()) + number(2, pid))))
        answer = dict(fields(self.sock.recv(65536)))
        if answer != {1: NOTIFY, 3: 1}:
            sys.exit(f"not an answer to a notification: {answer}")

    def dump(self, folder, said, kind):
        open(f"{folder}/pages.img", "w").close()
        self.notify("post-dump", said["2"][0])
        if kind == DUMP and "3" not in said:
            os.kill(said["2"][0], signal.SIGKILL)

    def restore(self, folder, said):
        os.stat(f"{folder}/pages.img")
        os.stat(said["13"][0] + "/bin")  # the root is there
        pid = ctypes.CDLL(None).syscall(SYS_CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            self.sock.close()
            os.execv("/bin/sleep", ["sleep", "1000"])
        self.notify("setup-namespaces", pid)
        self.notify("post-restore", pid)
        return bytes_of(4, number(1, pid))

    def serve(self):
        request = dict(fields(self.sock.recv(1 << 20)))
        kind = request[1]
        if kind == VERSION:
            self.sock.send(response(VERSION, rest=bytes_of(10, number(1, 3 if self.mode == "old" else 4) + number(2, 2))))
            return
        if kind == FEATURES:
            self.sock.send(response(FEATURES, rest=bytes_of(8, number(1, 1) + number(2, 0))))
            return
        said = options(request[2])
        folder = f"/proc/{os.getppid()}/fd/{said['1'][0]}"
        work = f"/proc/{os.getppid()}/fd/{said['17'][0]}" if "17" in said else folder
        json.dump(said, open(f"{folder}/request.json", "w"))
        with open(f"{work}/{said['10'][0]}", "w") as log:
            log.write("(00.1) Error (criu/tun.c:85): tun: no cause of anything\n")
            if self.mode == "fail":
                log.write("(00.2) Error (criu/fake.c:1): the sea is rough\n(00.3) Error (criu/fake.c:2): Dumping FAILED.\n")
        if self.mode == "silent":
            sys.exit(1)
        if self.mode == "fail":
            self.sock.send(response(kind, False, number(7, 16)))
            sys.exit(1)
        if self.mode == "rubbish":
            self.sock.send(b"\xff\xff\xff")
            return
        rest = self.restore(folder, said) if kind == RESTORE else self.dump(folder, said, kind) or b""
        self.sock.send(response(kind, rest=rest))
        if kind == PRE_DUMP:
            self.sock.recv(1)  # waits for more, as the real one does
            sys.exit(1)


Criu(sys.argv[1]).serve()
