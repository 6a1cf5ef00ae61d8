"""A systemd manager for tests, for machines that have none: enough of org.freedesktop.systemd1 over D-Bus to start, change
and stop scopes, with cgroups that are real. With FakeSystemd() as s: programs find it by s.env. What it was asked is in
s.calls and s.units."""
import contextlib
import os
import pathlib
import re
import signal
import socket
import struct
import tempfile
import threading
import time

CGROUPS = pathlib.Path("/sys/fs/cgroup")
ALIGN = {"y": 1, "g": 1, "v": 1, "n": 2, "q": 2, "b": 4, "i": 4, "u": 4, "s": 4, "o": 4, "a": 4,
         "x": 8, "t": 8, "d": 8, "(": 8, "{": 8}
FIXED = {"y": "B", "n": "h", "q": "H", "b": "I", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d"}


def one_type(sig):
    """The first complete type of a signature, and the rest."""
    if sig[0] == "a":
        first, rest = one_type(sig[1:])
        return "a" + first, rest
    if sig[0] in "({":
        depth = 0
        for i, c in enumerate(sig):
            depth += (c in "({") - (c in ")}")
            if not depth:
                return sig[:i + 1], sig[i + 1:]
    return sig[0], sig[1:]


class Reader:
    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def align(self, n):
        self.at += -self.at % n

    def read(self, t):
        self.align(ALIGN[t[0]])
        if t in FIXED:
            value, = struct.unpack_from("<" + FIXED[t], self.data, self.at)
            self.at += struct.calcsize(FIXED[t])
            return bool(value) if t == "b" else value
        if t in "sog":
            n = self.data[self.at] if t == "g" else struct.unpack_from("<I", self.data, self.at)[0]
            self.at += 1 if t == "g" else 4
            text = self.data[self.at:self.at + n].decode()
            self.at += n + 1
            return text
        if t == "v":
            return self.read(self.read("g"))
        if t[0] == "a":
            end = struct.unpack_from("<I", self.data, self.at)[0]
            self.at += 4
            self.align(ALIGN[t[1]])
            end += self.at
            out = []
            while self.at < end:
                out.append(self.read(t[1:]))
            return out
        return self.read_all(t[1:-1])

    def read_all(self, sig):
        out = []
        while sig:
            first, sig = one_type(sig)
            out.append(self.read(first))
        return tuple(out)


class Writer:
    def __init__(self):
        self.data = b""

    def align(self, n):
        self.data += b"\0" * (-len(self.data) % n)

    def write(self, t, value):
        self.align(ALIGN[t[0]])
        if t in FIXED:
            self.data += struct.pack("<" + FIXED[t], value)
        elif t in "sog":
            text = value.encode()
            self.data += (bytes([len(text)]) if t == "g" else struct.pack("<I", len(text))) + text + b"\0"
        elif t == "v":
            self.write("g", value[0])
            self.write(value[0], value[1])
        return self


class Refused(Exception):
    def __init__(self, name, text):
        super().__init__(text)
        self.name, self.text = name, text


def slice_path(name):
    """a-b.slice: a.slice/a-b.slice"""
    words = name.removesuffix(".slice").split("-")
    return "/".join("-".join(words[:i + 1]) + ".slice" for i in range(len(words)))


class FakeSystemd:
    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-systemd"))
        self.env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.dir}/bus"}
        self.units, self.calls, self.refuse, self.results = {}, [], {}, {}
        self.slices = set()
        self.lock = threading.RLock()
        self.jobs = 0
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(f"{self.dir}/bus")
        self.listener.listen(64)
        self.open = True
        v2 = (CGROUPS / "cgroup.controllers").exists()
        names = ("cpu", "cpuacct", "memory", "pids", "devices", "blkio", "systemd", "unified")
        self.roots = [CGROUPS] if v2 else [CGROUPS / n for n in names if (CGROUPS / n).is_dir()]
        for work in (self.accept, self.collect):
            threading.Thread(target=work, daemon=True).start()

    # --- cgroups ---------------------------------------------------------------------------------

    def pids(self, path):
        """Folders may go while they are walked: what is gone holds no process."""
        out = set()
        for root in self.roots[-1:]:
            with contextlib.suppress(OSError):
                for f in (root / path).rglob("cgroup.procs"):
                    with contextlib.suppress(OSError):
                        out |= {int(p) for p in f.read_text().split()}
        return out

    def make(self, name, properties):
        path = f"{slice_path(properties['Slice'])}/{name}"
        self.slices.add(path.split("/")[0])
        for root in self.roots:
            (root / path).mkdir(parents=True, exist_ok=True)
            for pid in properties["PIDs"]:
                (root / path / "cgroup.procs").write_text(str(pid))
        self.units[name] = {**properties, "path": path}

    def unmake(self, name):
        path = self.units.pop(name)["path"]
        for pid in self.pids(path):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for root in self.roots:
            self.remove(root / path)

    @staticmethod
    def remove(folder):
        for _ in range(200):
            with contextlib.suppress(OSError):
                for sub in sorted((d for d in folder.rglob("*") if d.is_dir()), key=lambda d: -len(d.parts)):
                    with contextlib.suppress(OSError):
                        sub.rmdir()
            with contextlib.suppress(OSError):
                folder.rmdir()
            if not folder.exists():
                return
            time.sleep(0.01)

    def collect(self):
        """A scope ends with its last process."""
        while self.open:
            with self.lock:
                for name in [n for n, u in self.units.items() if not self.pids(u["path"])]:
                    self.unmake(name)
            time.sleep(0.02)

    # --- methods ---------------------------------------------------------------------------------

    def method(self, member, args):
        with self.lock:
            self.calls.append((member, args))
            if self.refuse.get(member):
                raise self.refuse[member].pop(0)
            if member == "StartTransientUnit":
                if args[0] in self.units:
                    raise Refused("org.freedesktop.systemd1.UnitExists", f"Unit {args[0]} already exists.")
                self.make(args[0], merged(args[2]))
                return self.job(args[0], "StartTransientUnit")
            if member in ("StopUnit", "ResetFailedUnit", "SetUnitProperties") and args[0] not in self.units:
                raise Refused("org.freedesktop.systemd1.NoSuchUnit", f"Unit {args[0]} not loaded.")
            if member == "StopUnit":
                self.unmake(args[0])
                return self.job(args[0], "StopUnit")
            if member == "ResetFailedUnit" and not self.pids(self.units[args[0]]["path"]):
                self.unmake(args[0])
            if member == "SetUnitProperties":
                self.units[args[0]].update(merged(args[2]))
            if member == "Hello":
                return "s", ":1.1", None
            if member == "Get":
                return "v", ("s", "/user.slice"), None
        return "", None, None

    def job(self, unit, member):
        self.jobs += 1
        path = f"/org/freedesktop/systemd1/job/{self.jobs}"
        return "o", path, (self.jobs, path, unit, self.results.get(member, "done"))

    # --- the wire --------------------------------------------------------------------------------

    def accept(self):
        while self.open:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        with sock, contextlib.suppress(OSError):
            stream = sock.makefile("rb")
            assert stream.read(1) == b"\0"
            while (line := stream.readline()) not in (b"BEGIN\r\n", b""):
                sock.sendall(b"DATA\r\n" if line.startswith(b"AUTH EXTERNAL") else b"OK 0123456789abcdef\r\n")
            while head := stream.read(16):
                order, _, _, _, body_len, serial, fields_len = struct.unpack("<cBBBIII", head)
                assert order == b"l", order
                rest = stream.read(fields_len + -fields_len % 8 + body_len)
                fields = Reader(struct.pack("<I", fields_len) + b"\0\0\0\0" + rest[:fields_len])
                fields.at = 8
                names = {}
                while fields.at < 8 + fields_len:
                    fields.align(8)
                    key = fields.read("y")
                    names[key] = fields.read("v")
                args = Reader(rest[len(rest) - body_len:]).read_all(names.get(8, ""))
                self.answer(sock, serial, names[3], args)

    def answer(self, sock, serial, member, args):
        try:
            sig, value, removed = self.method(member, args)
        except Refused as why:
            self.send(sock, 3, [(5, "u", serial), (4, "s", why.name)], "s", [why.text])
            return
        # The job may be over before its number is known.
        early = removed and removed[0] % 2
        signal_fields = [(1, "o", "/org/freedesktop/systemd1"), (2, "s", "org.freedesktop.systemd1.Manager"),
                         (3, "s", "JobRemoved")]
        if removed and early:
            self.send(sock, 4, signal_fields, "uoss", removed)
        self.send(sock, 2, [(5, "u", serial)], sig, [value] if sig else [])
        if removed and not early:
            self.send(sock, 4, signal_fields, "uoss", removed)

    @staticmethod
    def send(sock, kind, fields, sig, values):
        body, head = Writer(), Writer()
        for t, value in zip(sig, values):
            body.write(t, value)
        for key, t, value in fields + ([(8, "g", sig)] if sig else []):
            head.align(8)
            head.write("y", key).write("v", (t, value))
        message = struct.pack("<cBBBIII", b"l", kind, 1, 1, len(body.data), 1, len(head.data)) + head.data
        sock.sendall(message + b"\0" * (-len(message) % 8) + body.data)

    # --- the end ---------------------------------------------------------------------------------

    def close(self):
        self.open = False
        with self.lock:
            for name in list(self.units):
                self.unmake(name)
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for root in CGROUPS.iterdir() if not (CGROUPS / "cgroup.controllers").exists() else [CGROUPS]:
            for name in self.slices:
                if root.is_dir() and not root.is_symlink() and re.match(r"knarrtest", name):
                    self.remove(root / name)
        for f in self.dir.iterdir():
            f.unlink()
        self.dir.rmdir()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def merged(properties):
    """The properties by name; a list is added to, an empty one empties it."""
    out = {}
    for name, value in properties:
        if isinstance(value, list) and value and name in out:
            value = out[name] + value
        out[name] = value
    return out
