#!/usr/bin/env python3
"""Sessions as a person has them: run -it, exec -it, attach, port-forward, on a pty and without one, while knarrd and
knarr-pod are killed."""
import fcntl
import hashlib
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from cli_test import Terminal, into_own_namespaces, ok  # noqa: E402
from images import Image, busybox_layer  # noqa: E402
from node import Knarrd, Tap, until  # noqa: E402
from registry import Registry  # noqa: E402

DETACH = b"\x10\x11"


class Shell(Terminal):
    """A command on a terminal of a size, whose modes are as they were once it has ended."""

    def __init__(self, words, width=100, height=30):
        # The size must be there before the command looks: it starts when its first byte has come.
        super().__init__(["/bin/sh", "-c", 'read go; "$@"; code=$?; echo left=$code; read go; exit $code', "sh", *map(str, words)])
        self.size(width, height)
        self.before = termios.tcgetattr(self.fd)
        os.write(self.fd, b"\n")

    def size(self, width, height):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def left(self, seconds=30):
        """Waits for the command's end: its exit code."""
        self.read_until(b"left=", seconds)
        until("the exit code", seconds, lambda: self.more() and re.search(rb"left=(\d+)\r", self.seen))
        assert termios.tcgetattr(self.fd)[:4] == self.before[:4], "the terminal is not as it was"
        code = int(re.search(rb"left=(\d+)\r", self.seen)[1])
        os.write(self.fd, b"\n")
        self.end()
        return code

    def more(self):
        try:
            self.read_until(b"\0never", 0.05)
        except AssertionError:
            pass
        return True


def knarr(n, *words):
    return [str(n.program("knarr")), "--socket", str(n.user_sock), *map(str, words)]


def runs(n, name, text):
    return text in n.cli("exec", name, "ps").stdout


def test_run(t, n, box):
    with t.test("run -it: a terminal of our size, which follows; Ctrl-C is the container's; its exit code is ours"):
        s = Shell(knarr(n, "run", "-it", "--rm", box, "sh", "-c",
                        "trap 'echo interrupted; hit=1' INT; echo tty=$(tty) term=$TERM; until [ \"$(stty size)\" = '30 100' ]; do "
                        "sleep 0.05; done; echo sized; until [ \"$(stty size)\" = '44 77' ]; do sleep 0.05; done; echo resized; "
                        "until [ \"$hit\" ]; do sleep 0.05; done; read x; echo got $x; exit 5"))
        s.read_until(b"term=xterm")
        s.read_until(b"sized")
        s.size(77, 44)
        s.read_until(b"resized")
        s.press(b"\x03")
        s.read_until(b"interrupted")
        s.press(b"word\r")
        s.read_until(b"got word\r\n")
        assert s.left() == 5, s.seen
        assert b"tty=/dev/" in s.seen
    with t.test("run -i: our input to its end, byte for byte"):
        data = os.urandom(30_000_000)
        done = subprocess.run(knarr(n, "run", "-i", "--rm", box, "cat"), input=data, capture_output=True, timeout=120)
        assert done.returncode == 0 and done.stdout == data and done.stderr == b"", (done.returncode, len(done.stdout))
        done = subprocess.run(knarr(n, "run", "-i", "--rm", box, "sh", "-c", "wc -c; exit 3"), input=b"12345",
                              capture_output=True, timeout=60)
        assert (done.returncode, done.stdout) == (3, b"5\n"), done
    with t.test("run -it without a terminal of ours works"):
        done = subprocess.run(knarr(n, "run", "-it", "--rm", box, "sh"), input=b"echo hi | tr a-z A-Z\nexit 4\n",
                              capture_output=True, timeout=60)
        assert done.returncode == 4 and b"HI\r\n" in done.stdout, done
    with t.test("run loses nothing to a slow reader: the container waits"):
        p = subprocess.Popen(knarr(n, "run", "--name", "slow", box, "seq", "1000000"), stdout=subprocess.PIPE)
        first = p.stdout.read(1000)
        log = until("its log", 20, lambda: re.search(r'"log_path": "([^"]+)"', n.cli("inspect", "slow").stdout))[1]
        sizes = [0]
        until("the log to stand still", 60, lambda: sizes.append(os.path.getsize(log)) or sizes[-1] == sizes[-2] > 0, every=1)
        assert "running" in n.cli("ps").stdout.lower()
        out = first + p.stdout.read()
        want = b"".join(b"%d\n" % i for i in range(1, 1000001))
        assert p.wait(60) == 0 and out == want, f"{len(out)} bytes of {len(want)}"
        ok(n.cli("rm", "slow"))
    with t.test("Ctrl-P Ctrl-Q leaves it running; attach comes back, with its input and its exit code"):
        s = Shell(knarr(n, "run", "-it", "--name", "left", box, "sh", "-c",
                        "stty -icanon -echo; echo ready; while read -n 1 k; do printf '<%s>' \"$k\" | od -An -tx1; "
                        "[ \"$k\" = q ] && exit 6; done"))
        s.read_until(b"ready")
        s.press(b"\x10a")  # the first key alone is the container's
        s.read_until(b"3c 10 3e")
        s.read_until(b"3c 61 3e")
        s.press(DETACH)
        assert s.left() == 0, s.seen
        a = Shell(knarr(n, "attach", "left"))
        b = Shell(knarr(n, "attach", "--no-stdin", "left"))
        for i in range(100):  # until both are there
            a.press(b"b")
            if a.more() and b.more() and b"3c 62 3e" in a.seen and b"3c 62 3e" in b.seen:
                break
        a.press(b"q")
        assert a.left() == 6 and b.left() == 6, (a.seen, b.seen)
        ok(n.cli("rm", "left"))
    with t.test("--rm still holds after the detach keys"):
        s = Shell(knarr(n, "run", "-it", "--rm", "--name", "later", box, "sh", "-c", "echo ready; until [ -e /go ]; do sleep 0.1; done"))
        s.read_until(b"ready")
        s.press(DETACH)
        assert s.left() == 0
        n.cli("exec", "later", "touch", "/go")
        until("its removal", 30, lambda: "later" not in n.cli("ps", "-a").stdout)
    with t.test("a killed run -it leaves the container running"):
        p = subprocess.Popen(knarr(n, "run", "-i", "--name", "orphan", box, "sh", "-c", "echo up; seq 300000; sleep 1000"),
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"up\n"
        p.kill()
        p.wait()
        until("the container to go on", 30, lambda: runs(n, "orphan", "sleep 1000"))
        ok(n.cli("rm", "-f", "orphan"))


def test_attach(t, n, box):
    with t.test("attach shows what is written from then on, apart, to several, and ends with its exit code"):
        ok(n.cli("run", "-d", "-i", "--name", "many", box, "sh", "-c",
                 "echo before; read x; echo out $x; echo err $x >&2; read x; exit $x"))
        until("its start", 20, lambda: "before" in n.cli("logs", "many").stdout)
        p = [subprocess.Popen(knarr(n, "attach", "many"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
             for _ in range(4)]
        for one in p:
            until("an attach", 20, lambda one=one: is_attached(one))
        p[0].stdin.write(b"word\n")
        p[0].stdin.flush()
        for one in p:
            assert one.stdout.readline() == b"out word\n" and one.stderr.readline() == b"err word\n"
        p[3].stdin.write(b"9\n")
        p[3].stdin.close()
        for one in p:
            assert one.wait(30) == 9
        ok(n.cli("rm", "many"))
    with t.test("Ctrl-C without a terminal goes to the container"):
        ok(n.cli("run", "-d", "--name", "sig", box, "sh", "-c", "trap 'exit 12' INT; echo up; while :; do sleep 0.05; done"))
        until("its start", 20, lambda: "up" in n.cli("logs", "sig").stdout)
        p = subprocess.Popen(knarr(n, "attach", "sig"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        until("the attach", 20, lambda: is_attached(p))
        p.send_signal(signal.SIGINT)
        assert p.wait(30) == 12
        ok(n.cli("rm", "sig"))
    with t.test("attach to what is not there, or has ended, is one sentence"):
        ok(n.cli("run", "--name", "gone", box, "true"))
        ok(n.cli("attach", "gone", check=False), 125, out="", err="gone|exited")
        ok(n.cli("attach", "nosuch", check=False), 125, out="", err="nosuch")
        ok(n.cli("rm", "gone"))


def is_attached(p):
    """Whether the command has the container's pipes."""
    fds = [f for f in pathlib.Path(f"/proc/{p.pid}/fd").iterdir() if int(f.name) > 2]
    return sum("pipe:" in os.readlink(f) for f in fds) >= 2


def test_exec(t, n, box):
    ok(n.cli("run", "-d", "--name", "host", box, "sleep", "1000"))
    with t.test("exec -it: a terminal, its size from the start, its exit code"):
        s = Shell(knarr(n, "exec", "-it", "host", "sh", "-c", "stty size; tty; read x; echo got $x; exit 8"), 91, 33)
        s.read_until(b"33 91\r\n/dev/pts/")
        s.press(b"word\r")
        s.read_until(b"got word")
        assert s.left() == 8, s.seen
    with t.test("exec -it where a container may trace others: the terminal is its own all the same"):
        ok(n.cli("run", "-d", "--privileged", "--name", "tracer", box, "sleep", "1000"))
        s = Shell(knarr(n, "exec", "-it", "tracer", "sh", "-c", "tty; trap 'exit 11' INT; echo up; while :; do sleep 0.05; done"))
        s.read_until(b"/dev/pts/")
        s.read_until(b"up\r\n")
        s.press(b"\x03")
        assert s.left() == 11, s.seen
        ok(n.cli("rm", "-f", "tracer"))
    with t.test("exec -i: input, output and stderr, byte for byte, both ways at once"):
        data = os.urandom(50_000_000)
        done = subprocess.run(knarr(n, "exec", "-i", "host", "sh", "-c", "tee /dev/stderr"), input=data, capture_output=True,
                              timeout=120)
        assert done.returncode == 0 and done.stdout == data and done.stderr == data, (done.returncode, len(done.stdout))
    with t.test("exec without -i has no input; its output is live"):
        done = subprocess.run(knarr(n, "exec", "host", "cat"), input=b"text", capture_output=True, timeout=30)
        assert (done.returncode, done.stdout) == (0, b""), done
        p = subprocess.Popen(knarr(n, "exec", "host", "sh", "-c", "echo one; read -t 100 x </dev/zero; sleep 100"), stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"one\n"
        p.terminate()
        assert p.wait(30) == 143
    with t.test("a command on a pipe: exec -it with a script as input"):
        done = subprocess.run(knarr(n, "exec", "-it", "host", "sh"), input=b"exit $((40+2))\n", capture_output=True, timeout=30)
        assert done.returncode == 42, done
    for status, words, why in ((127, ["nosuch"], r'"nosuch".*not found'), (126, ["/etc/passwd"], "/etc/passwd")):
        with t.test(f"exec of what cannot be started is {status}"):
            ok(n.cli("exec", "-i", "host", *words, check=False), status, out="", err=why)
    for sig in (signal.SIGKILL, signal.SIGHUP):
        with t.test(f"exec -it ended by {sig.name} leaves no process of it"):
            s = Terminal(knarr(n, "exec", "-it", "host", "sh", "-c", "(trap '' HUP; sleep 776) & echo up; sleep 776; true"))
            s.read_until(b"up")
            os.kill(s.pid, sig)
            s.end()
            until("their end", 30, lambda: not runs(n, "host", "sleep 776"))
    with t.test("40 execs at once"):
        done = []
        threads = [threading.Thread(target=lambda i=i: done.append(
            subprocess.run(knarr(n, "exec", "-i", "host", "sh", "-c", f"cat; exit {i}"), input=b"x" * i, capture_output=True,
                           timeout=120).returncode)) for i in range(40)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        assert sorted(done) == list(range(40)), done
    ok(n.cli("rm", "-f", "host"))


class Forward:
    """knarr port-forward to one port; the local port in .port."""

    def __init__(self, n, name, remote):
        self.p = subprocess.Popen(knarr(n, "port-forward", name, f":{remote}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        self.port = int(re.search(r"127\.0\.0\.1:(\d+) -> ", self.p.stdout.readline())[1])

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 20)

    def end(self):
        self.p.send_signal(signal.SIGINT)
        assert self.p.wait(20) == 130
        return self.p.stderr.read()


def echoed(f, data):
    """What comes back of data, sent with the end of file after it."""
    with f.connect() as s:
        s.settimeout(60)

        def send():
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
        thread = threading.Thread(target=send)
        thread.start()
        back = b""
        while piece := s.recv(1 << 20):
            back += piece
        thread.join()
        return back


SERVER = """
import socket, sys, threading
s = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print("up", flush=True)
def serve(c):
    while piece := c.recv(1 << 20):
        c.sendall(piece)
    c.close()
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
"""


class Server:
    """Sends back what it gets, on one address of a network namespace."""

    def __init__(self, address, port, netns=None):
        enter = ["nsenter", f"--net={netns}"] if netns else []
        self.p = subprocess.Popen([*enter, sys.executable, "-c", SERVER, address, str(port)], stdout=subprocess.PIPE)
        assert self.p.stdout.readline() == b"up\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.p.kill()
        self.p.wait()


def test_ports(t, n, box):
    before = set(pathlib.Path("/run/netns").iterdir())
    ok(n.cli("run", "-d", "--name", "srv", box, "sleep", "1000"))
    netns = (set(pathlib.Path("/run/netns").iterdir()) - before).pop()
    for what, address in (("IPv4", "127.0.0.1"), ("IPv6 alone", "::1")):
        with t.test(f"port-forward to a server on {what}: both ways, with the end of file, several at once"):
            with Server(address, 8080, netns):
                f = Forward(n, "srv", 8080)
                data = os.urandom(50_000_000)
                assert hashlib.md5(echoed(f, data)).digest() == hashlib.md5(data).digest()
                back = []
                threads = [threading.Thread(target=lambda i=i: back.append(echoed(f, b"%d" % i * 1000))) for i in range(20)]
                for one in threads:
                    one.start()
                for one in threads:
                    one.join()
                assert sorted(back) == sorted(b"%d" % i * 1000 for i in range(20))
                assert f.end() == ""
    with t.test("a port that nobody listens on: the connection ends, one sentence says why, the rest goes on"):
        with Server("127.0.0.1", 8080, netns):
            f = Forward(n, "srv", 81)
            with f.connect() as s:
                assert s.recv(1) == b""
            with f.connect() as s:
                assert s.recv(1) == b""
            said = f.end()
            assert re.search(r"^knarr: .*port 81 .*127\.0\.0\.1: Connection refused; ::1: ", said), said
            assert said.count("\n") == 2, said
    with t.test("the host's network is reached too, and bad ports are one sentence"):
        ok(n.cli("run", "-d", "--network", "host", "--name", "hostnet", box, "sleep", "1000"))
        with Server("127.0.0.1", 18080):
            f = Forward(n, "hostnet", 18080)
            assert echoed(f, b"there and back") == b"there and back"
            f.end()
        for words, why in ((["srv", "x:80"], "x:80"), (["srv", "1:0"], "1:0"), (["srv"], "ports"), (["nosuch", "1:1"], "nosuch")):
            ok(n.cli("port-forward", *words, check=False), 125, out="", err=why)
        ok(n.cli("rm", "-f", "hostnet"))
        ok(n.cli("rm", "-f", "srv"))


def test_kill(t, n, box):
    with t.test("run -it and exec -it go on while knarrd is killed and started again"):
        s = Shell(knarr(n, "run", "-it", "--name", "stays", box, "sh", "-c", "read x; echo one $x; read x; echo two $x; exit 7"))
        until("it", 20, lambda: "stays" in n.cli("ps").stdout)
        x = Shell(knarr(n, "exec", "-it", "stays", "sh", "-c", "echo up; read x; echo three $x; exit 9"))
        x.read_until(b"up")
        n.kill()
        s.press(b"a\r")
        s.read_until(b"one a")
        n.start()
        x.press(b"b\r")
        x.read_until(b"three b")
        assert x.left() == 9, x.seen
        s.press(b"c\r")
        s.read_until(b"two c")
        assert s.left() == 7, s.seen
        ok(n.cli("rm", "stays"))
    with t.test("a killed knarr-pod ends its sessions, and leaves nothing"):
        s = Shell(knarr(n, "run", "-it", "--name", "dies", box, "sh", "-c", "echo up; sleep 1000"))
        s.read_until(b"up")
        x = Shell(knarr(n, "exec", "-it", "dies", "sh", "-c", "echo up; sleep 1000"))
        x.read_until(b"up")
        for pid in n.monitors():
            os.kill(pid, signal.SIGKILL)
        assert x.left() == 125 and b"knarr-pod has ended" in x.seen, x.seen
        assert s.left() in (137, 255), s.seen
        ok(n.cli("rm", "-f", "dies"))
    with t.test("nothing is left"):
        until("nothing to be left", 30, lambda: not n.leftovers())


def main():
    into_own_namespaces()
    build = pathlib.Path(os.environ.get("KNARR_BUILD", "build")).resolve()
    only = sys.argv[1:]
    t = Tap()
    with Registry() as r, Knarrd(build) as n:
        box = f"{r.address}/t/busybox:1"
        Image([busybox_layer()]).push(r.address, "t/busybox", "1")
        n.cli("pull", box)
        for name, test in (("run", test_run), ("attach", test_attach), ("exec", test_exec), ("ports", test_ports),
                           ("kill", test_kill)):
            if not only or name in only:
                test(t, n, box)
    t.end()


if __name__ == "__main__":
    main()
