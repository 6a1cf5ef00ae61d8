#!/usr/bin/env python3
"""Makes the inputs here and in ../websocket: the first byte says in pieces of how many bytes (plus one) it comes."""
import pathlib
import re
import struct
import zlib

HERE = pathlib.Path(__file__).resolve().parent
INC = (HERE.parents[2] / "src/wire/spdy_dictionary.inc").read_text()


def dictionary():
    out = b""
    for length, word, plain in re.findall(r'WORD\("\\(\d+)", "([^"]*)"\)|^\t"([^"]*)"', INC, re.M):
        out += b"\0\0\0" + bytes([int(length, 8)]) + word.encode() if word else plain.encode()
    return out


class Peer:
    def __init__(self):
        self.deflater = zlib.compressobj(zdict=dictionary())

    def block(self, headers):
        raw = struct.pack(">I", len(headers))
        for name, value in headers:
            raw += struct.pack(">I", len(name)) + name + struct.pack(">I", len(value)) + value
        return self.packed(raw)

    def packed(self, raw):
        return self.deflater.compress(raw) + self.deflater.flush(zlib.Z_SYNC_FLUSH)

    def syn(self, stream, headers=((b"streamtype", b"stdin"),), flags=0, block=None):
        return control(1, struct.pack(">IIH", stream, 0, 0) + (self.block(headers) if block is None else block), flags)


def control(kind, payload, flags=0):
    return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload


def data(stream, payload, fin=0):
    return struct.pack(">II", stream, fin << 24 | len(payload)) + payload


def words(*values):
    return b"".join(struct.pack(">I", v) for v in values)


def spdy():
    p = Peer()
    exec_ = p.syn(1, [(b"streamtype", b"error")]) + p.syn(3, [(b"streamtype", b"stdin")]) + data(3, b"hello") + \
        data(3, b"", 1) + control(6, words(1)) + control(3, words(1, 5)) + control(7, words(3, 0))
    yield "good/exec", 255, exec_
    yield "good/bytewise", 0, exec_
    p = Peer()
    yield "good/windows", 20, control(4, words(1, 7, 10)) + p.syn(1) + control(9, words(0, 1000)) + \
        control(9, words(1, 1000)) + data(1, b"x" * 300) + control(8, words(1) + p.block([]), 1) + data(5, b"lost")
    p = Peer()
    yield "good/overflow-of-a-stream", 255, p.syn(1) + control(9, words(1, 0x7fffffff))
    yield "bad/version", 255, struct.pack(">HHI", 0x8002, 6, 4) + words(1)
    yield "bad/long-control", 255, struct.pack(">HHI", 0x8003, 1, 1 << 20)
    yield "bad/short-syn", 255, control(1, words(1))
    yield "bad/short-ping", 255, control(6, b"\0")
    yield "bad/short-reset", 255, control(3, words(1))
    yield "bad/short-window", 255, control(9, words(1))
    yield "bad/cut-settings", 255, control(4, words(9, 1))
    yield "bad/window-of-settings", 255, control(4, words(1, 7, 0x80000000))
    yield "bad/session-window", 255, control(9, words(0, 0x7fffffff))
    yield "bad/no-zlib", 255, Peer().syn(1, block=b"streamtype")
    yield "bad/even-stream", 255, Peer().syn(2)
    p = Peer()
    yield "bad/same-stream", 255, p.syn(1) + p.syn(1)
    yield "bad/reply", 255, control(2, words(1))
    p = Peer()
    yield "bad/many-headers", 255, p.syn(1, [(b"n", b"v")] * 65)
    p = Peer()
    yield "bad/bomb", 255, p.syn(1, [(b"n", b"v" * 1000000)])
    p = Peer()
    yield "bad/cut-block", 255, p.syn(1, block=p.packed(words(1, 100) + b"short"))
    p = Peer()
    yield "bad/huge-length", 255, p.syn(1, block=p.packed(words(1, 0xffffffff) + b"short"))
    p = Peer()
    yield "bad/no-name", 255, p.syn(1, [(b"", b"v")])


def frame(opcode, payload, fin=True, masked=True, rsv=0, length=None):
    head = bytes([(0x80 if fin else 0) | rsv | opcode])
    n = len(payload) if length is None else length
    mask = 0x80 if masked else 0
    if n < 126:
        head += bytes([mask | n])
    elif n < 65536:
        head += bytes([mask | 126]) + struct.pack(">H", n)
    else:
        head += bytes([mask | 127]) + struct.pack(">Q", n)
    if masked:
        head += b"mask"
        payload = bytes(b ^ b"mask"[i % 4] for i, b in enumerate(payload))
    return head + payload


def websocket():
    talk = frame(2, b"\0hello") + frame(9, b"ping") + frame(1, b"0a", fin=False) + frame(9, b"") + \
        frame(0, b"GVs", fin=False) + frame(0, b"bG8=") + frame(2, b"") + frame(2, b"x" * 300) + \
        frame(8, struct.pack(">H", 1000) + b"done") + b"what follows is not read"
    yield "good/talk", 255, talk
    yield "good/bytewise", 0, talk
    yield "good/close-without-code", 9, frame(8, b"")
    yield "good/70000", 99, frame(2, bytes(70000))
    yield "bad/unmasked", 255, frame(2, b"x", masked=False)
    yield "bad/extension", 255, frame(2, b"x", rsv=0x40)
    yield "bad/opcode", 255, frame(3, b"x")
    yield "bad/control-opcode", 255, frame(11, b"x")
    yield "bad/long-ping", 255, frame(9, bytes(126))
    yield "bad/cut-ping", 255, frame(9, b"x", fin=False)
    yield "bad/no-begin", 255, frame(0, b"x")
    yield "bad/message-in-message", 255, frame(2, b"x", fin=False) + frame(2, b"x")
    yield "bad/2-to-63", 255, frame(2, b"", length=1 << 63)
    yield "bad/close-of-one-byte", 255, frame(8, b"x")
    yield "bad/close-code", 255, frame(8, struct.pack(">H", 1005))
    yield "bad/close-utf8", 255, frame(8, struct.pack(">H", 1000) + b"\xff")


for folder, cases in (HERE, spdy()), (HERE.parent / "websocket", websocket()):
    for name, piece, content in cases:
        (folder / name).write_bytes(bytes([piece]) + content)
