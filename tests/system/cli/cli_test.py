"""The user's command as a person uses it: a real registry, real containers, a service and private knarrds.

All of it runs in network and mount namespaces of its own (the machine's network, /var/lib/cni and /run/netns stay as they
are); a veth pair is the way from another host.
"""
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
from images import Image, busybox_layer  # noqa: E402
from node import Knarrd, Tap, until  # noqa: E402
from registry import Registry  # noqa: E402

OUTSIDE = "knarr-outside"  # a network namespace that plays another host: 198.51.100.2; ours is .1
HOST_IP, OTHER_IP = "198.51.100.1", "198.51.100.2"


def sh(*words, **kw):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **kw).stdout


def into_own_namespaces():
    if os.environ.get("KNARR_OWN_NAMESPACES") != "1":
        os.execvpe("unshare", ["unshare", "--net", "--mount", sys.executable, *sys.argv],
                   os.environ | {"KNARR_OWN_NAMESPACES": "1"})
    for folder in ("/run/netns", "/var/lib/cni"):
        if os.path.isdir(folder):
            sh("mount", "-t", "tmpfs", "tmpfs", folder)
    sh("ip", "link", "set", "lo", "up")
    sh("ip", "netns", "add", OUTSIDE)
    sh("ip", "link", "add", "up0", "type", "veth", "peer", "name", "eth0", "netns", OUTSIDE)
    sh("ip", "addr", "add", f"{HOST_IP}/24", "dev", "up0")
    sh("ip", "link", "set", "up0", "up")
    for words in (["ip", "addr", "add", f"{OTHER_IP}/24", "dev", "eth0"], ["ip", "link", "set", "eth0", "up"],
                  ["ip", "route", "add", "default", "via", HOST_IP]):
        sh("ip", "netns", "exec", OUTSIDE, *words)


def ok(result, status=0, out=None, err=None):
    """What a command must have done; the message says what it did."""
    did = f"exit {result.returncode}\nstdout: {result.stdout[-800:]}\nstderr: {result.stderr[-800:]}"
    assert result.returncode == status, did
    if out is not None:
        assert result.stdout == out if isinstance(out, str) else out.search(result.stdout), did
    if err is not None:
        assert re.search(err, result.stderr), did
        assert result.stderr.count("\n") == 1, f"not one sentence\n{did}"
    return result


class Terminal:
    """A command under a pty, as in a person's shell."""

    def __init__(self, words):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execv(words[0], [str(w) for w in words])
        self.seen = b""

    def read_until(self, text, seconds=20):
        end = time.monotonic() + seconds
        while text is None or text not in self.seen:
            if time.monotonic() > end:
                raise AssertionError(f"no {text!r} within {seconds} s in {self.seen!r}")
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    piece = os.read(self.fd, 65536)
                except OSError:
                    piece = b""
                if not piece:
                    if text is None:
                        return self.seen
                    raise AssertionError(f"it ended without {text!r}: {self.seen!r}")
                self.seen += piece

    def press(self, key):
        os.write(self.fd, key)

    def end(self):
        self.read_until(None, 30)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def test_images(t, n, r, box):
    with t.test("pull names the image and its ID; a second one is the same"):
        first = ok(n.cli("pull", box)).stdout
        assert first == ok(n.cli("pull", box)).stdout and " is " in first, first
    with t.test("pull -q prints the ID alone"):
        ok(n.cli("pull", "-q", box), out=re.compile(r"^sha256:[0-9a-f]{64}\n$"))
    with t.test("images lists it; -q by ID"):
        ok(n.cli("images"), out=re.compile(rf"^IMAGE +ID +SIZE\n{re.escape(box)} +[0-9a-f]{{12}} +[\d.]+MB\n$"))
        ok(n.cli("images", "-q"), out=re.compile(r"^sha256:[0-9a-f]{64}\n$"))
    with t.test("tag gives one more name; rmi takes that name alone, the ID takes the image"):
        ok(n.cli("tag", box, "example.com/mine:2"))
        assert "example.com/mine:2" in n.cli("images").stdout
        ok(n.cli("rmi", "example.com/mine:2"), out="example.com/mine:2\n")
        assert "mine" not in n.cli("images").stdout and box in n.cli("images").stdout
        ok(n.cli("tag", box, "example.com/mine:2"))
        ident = n.cli("images", "-q").stdout.strip()
        ok(n.cli("rmi", ident), out=f"{ident}\n")
        ok(n.cli("images", "-q"), out="")
        ok(n.cli("pull", box))
    with t.test("a short name is what registries.conf makes of it, and a bad file is named"):
        conf = n.dir / "registries.conf"
        conf.write_text(f'unqualified-search-registries = ["127.0.0.1:1", "{r.address}"]\n[aliases]\nbox = "{box.rpartition(":")[0]}"\n')
        ok(n.cli("pull", "-q", "box:1"), out=n.cli("images", "-q").stdout)
        ok(n.cli("run", "--rm", "--network", "none", "box:1", "echo", "hi"), out="hi\n")
        ok(n.cli("inspect", "t/busybox:1"), out=re.compile(re.escape(box)))
        ok(n.cli("pull", "-q", "t/busybox:1"), out=n.cli("images", "-q").stdout)
        ok(n.cli("pull", "t/nosuch", check=False), 125, err="2 names.*127.0.0.1:1.*onnect.*not found")
        conf.write_text("[[registry]]\nlocation = 'https://x'\n")
        ok(n.cli("pull", "box:1", check=False), 125, err="registries.conf: line 1: .*scheme")
        conf.unlink()
    with t.test("inspect of an image is JSON with its digests"):
        ok(n.cli("inspect", box), out=re.compile(r'"repo_digests"'))
    with t.test("a terminal sees a progress bar"):
        Image([busybox_layer([("big", os.urandom(20_000_000))])]).push(r.address, "t/big", "1")
        term = Terminal([n.program("knarr"), "--socket", n.user_sock, "pull", f"{r.address}/t/big:1"])
        assert term.end() == 0, term.seen
        assert b"\r\x1b[K[" in term.seen and b"layer " in term.seen and b"t/big:1 is " in term.seen, term.seen
        ok(n.cli("rmi", f"{r.address}/t/big:1"))
    for what, words, why in (
            ("a registry that is not there", ["pull", "127.0.0.1:1/x"], r"127\.0\.0\.1:1.*[Cc]onnect"),
            ("a name that is not there", ["pull", f"{r.address}/t/nosuch"], r"t/nosuch.*not found"),
            ("a tag that is not there", ["pull", f"{r.address}/t/busybox:9"], r"busybox.*9.*not found"),
            ("no reference", ["pull", "a//b"], r"a//b"), ("an empty reference", ["pull", ""], "empty"),
            ("no words", ["pull"], "image is missing"), ("too many words", ["pull", "a", "b"], "one word too many"),
            ("UTF-8", ["pull", "bïld"], "bïld"), ("spaces", ["pull", "a b"], "a b"),
            ("a long name", ["pull", "a" * 5000], "a"), ("rmi of nothing", ["rmi", "nosuch"], "nosuch"),
            ("rmi without words", ["rmi"], "which image"), ("an unknown verb", ["frob"], "frob.*--help"),
            ("an unknown option", ["pull", "--frob", "x"], "--frob")):
        with t.test(f"images: {what} is one sentence, at once"):
            began = time.monotonic()
            ok(n.cli(*words, check=False), 125, err=rf"^knarr: .*{why}")
            assert time.monotonic() - began < 10, f"{time.monotonic() - began:.1f} s"
    with t.test("a failing word does not keep the others from their turn"):
        ok(n.cli("rmi", "nosuch", box, check=False), 125, out=f"{box}\n", err="nosuch")
        ok(n.cli("pull", box))


def test_run(t, n, box):
    run = lambda *w, **k: n.cli("run", "--rm", *w, check=False, **k)  # noqa: E731
    with t.test("run shows stdout and stderr apart and ends with the exit code"):
        done = run(box, "sh", "-c", "echo out; echo err >&2; exit 7")
        assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n"), done
    with t.test("run ends with 128 + signal"):
        ok(run(box, "sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137)
    with t.test("long lines, bytes and a last line without its end come as they were written"):
        script = "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'a\\tb\\001\\377\\nlast'"
        done = run(box, "sh", "-c", script, text=False)
        assert done.stdout.rstrip(b"\n") == b"x" * 100000 + b"\na\tb\x01\xff\nlast", done.stdout[99990:]
    with t.test("output is live"):
        p = subprocess.Popen([n.program("knarr"), "--socket", n.user_sock, "run", "--rm", box, "sh", "-c",
                              "echo one; sleep 3; echo two"], stdout=subprocess.PIPE)
        began = time.monotonic()
        assert p.stdout.readline() == b"one\n" and time.monotonic() - began < 2
        assert p.stdout.read() == b"two\n" and p.wait(20) == 0
    for status, words, why in ((127, ["nosuch"], r'"nosuch".*not found'), (126, ["/etc/passwd"], "/etc/passwd"),
                               (126, ["/etc"], "/etc"), (127, ["/no/such"], "/no/such")):
        with t.test(f"a command that cannot be started is {status}: {words[0]}"):
            ok(run(box, *words), status, out="", err=why)
    for what, options, why in (
            ("an unknown user", ["-u", "nouser"], "nouser"), ("a user without a name", ["-u", ":5"], "-u"),
            ("a missing mount source", ["-v", "/nosuch:/m"], "/nosuch"), ("a relative mount", ["-v", "m:/m"], "absolute"),
            ("an unknown mount option", ["-v", "/tmp:/m:frob"], "frob"), ("a mount without target", ["-v", "/tmp"], "SRC:DST"),
            ("a port of one part", ["-p", "80"], "HOST:CONTAINER"), ("port 0", ["-p", "0:80"], "1 to 65535"),
            ("port 65536", ["-p", "65536:80"], "1 to 65535"), ("a port's protocol", ["-p", "80:80/frob"], "tcp, udp or sctp"),
            ("a port's address", ["-p", "frob:80:80"], "no IP address"),
            ("a port of the host's network", ["--network", "host", "-p", "80:80"], "-p needs"),
            ("an unknown network", ["--network", "frob"], "host, none or bridge"),
            ("too little memory", ["-m", "1k"], "4m"), ("memory that is no size", ["-m", "lots"], "lots"),
            ("no CPUs", ["--cpus", "0"], "--cpus"), ("words for CPUs", ["--cpus", "two"], "two"),
            ("an unknown capability", ["--cap-add", "FROB"], "FROB"), ("a label of one word", ["--label", "x"], "KEY=VALUE"),
            ("a variable without name", ["-e", "=x"], "KEY=VALUE"), ("an unknown --pull", ["--pull", "frob"], "--pull"),
            ("a name with a space", ["--name", "a b"], "--name"), ("a name with a slash", ["--name", "../a"], "--name"),
            ("a name in UTF-8", ["--name", "wéb"], "--name"), ("a long name", ["--name", "a" * 200], "--name"),
            ("an empty name", ["--name", ""], "--name"), ("a host name with a space", ["--hostname", "a b"], "--hostname"),
            ("an unknown option", ["--frob"], "--frob"),
            ("a relative working folder", ["-w", "rel"], "rel")):
        with t.test(f"run: {what} is one sentence"):
            ok(run(*options, box, "true"), 125, out="", err=rf"^knarr: .*{why}")
    with t.test("run without an image says what is missing"):
        ok(n.cli("run", check=False), 125, err="which image")
    with t.test("-e sets, passes on, and leaves out what the shell does not have"):
        out = run("-e", "A=b c=d", "-e", "MINE", "-e", "NOSUCH", box, "env", env=os.environ | {"MINE": "é"}).stdout
        assert "A=b c=d\n" in out and "MINE=é\n" in out and "NOSUCH" not in out, out
    with t.test("-u takes names, numbers and a group"):
        ok(run("-u", "app", box, "id"), out="uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)\n")
        ok(run("-u", "1000:2000", box, "sh", "-c", "id -u; id -g"), out="1000\n2000\n")
        ok(run("-u", "4242", box, "id", "-u"), out="4242\n")
    with t.test("-w makes the folder it names"):
        ok(run("-w", "/new/folder", box, "pwd"), out="/new/folder\n")
    with t.test("-v mounts folders and files, ro and rw, with spaces in their names"):
        folder = n.dir / "a folder"
        folder.mkdir()
        (folder / "file").write_text("text")
        ok(run("-v", f"{folder}:/m:ro", "-v", f"{folder}/file:/f", box, "sh", "-c", "cat /m/file /f; touch /m/x"), 1,
           out="texttext")
        ok(run("-v", f"{folder}:/m", box, "sh", "-c", "echo new > /m/made"))
        assert (folder / "made").read_text() == "new\n"
    with t.test("-m and --cpus are the kernel's limits"):
        out = run("-m", "64m", "--cpus", "0.5", box, "sh", "-c",
                  "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.cfs_quota_us "
                  "/sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max 2>/dev/null").stdout.split()
        assert out in (["67108864", "50000"], ["67108864", "50000", "100000"]), out
    with t.test("more memory than the limit is 137 and says why"):
        ok(run("-m", "16m", box, "sh", "-c", "tail /dev/zero"), 137, err="memory")
    with t.test("--network none has only lo, host the host's"):
        ok(run("--network", "none", box, "sh", "-c", "ls /sys/class/net"), out="lo\n")
        assert "up0" in run("--network", "host", box, "ls", "/sys/class/net").stdout
    with t.test("--hostname, --read-only, --entrypoint, --privileged"):
        ok(run("--hostname", "some-name", box, "hostname"), out="some-name\n")
        ok(run("--read-only", box, "touch", "/x"), 1)
        ok(run("--entrypoint", "/bin/echo", box, "a", "b"), out="a b\n")
        assert int(run("--privileged", box, "sh", "-c", "ls /dev | wc -l").stdout) > 30
    with t.test("--cap-drop ALL leaves none; --cap-add adds one"):
        caps = lambda *w: run(*w, box, "grep", "CapEff", "/proc/self/status").stdout.split()[1]  # noqa: E731
        assert int(caps("--cap-drop", "ALL"), 16) == 0
        assert int(caps("--cap-drop", "ALL", "--cap-add", "NET_RAW"), 16) == 1 << 13
        assert int(caps("--cap-add", "SYS_TIME"), 16) == int(caps(), 16) | 1 << 25
    with t.test("--pull never refuses what is not here, always fetches anew"):
        ok(n.cli("run", "--rm", "--pull", "never", "x.example/no:1", "true", check=False), 125, err="--pull=never")
        ok(run("--pull", "always", box, "echo", "hi"), out="hi\n")
    with t.test("the image's own command is run where none is given"):
        ok(run(box), 0, out="")
    with t.test("stdout that is closed early is no error message, and --rm removes"):
        p = subprocess.run(f"{n.program('knarr')} --socket {n.user_sock} run --rm {box} yes | head -2", shell=True,
                           capture_output=True, text=True, timeout=30)
        assert p.stdout == "y\ny\n" and p.stderr == "", p
    with t.test("a full stdout is one sentence"):
        with open("/dev/full", "w") as full:
            p = subprocess.run([n.program("knarr"), "--socket", n.user_sock, "images"], stdout=full, stderr=subprocess.PIPE,
                               text=True)
        assert p.returncode == 125 and "No space left" in p.stderr, p
    with t.test("nothing of all these is left"):
        ok(n.cli("ps", "-aq"), out="")
        assert not n.leftovers(), n.leftovers()


def test_life(t, n, box):
    with t.test("run -d prints the ID; ps shows the name, the state and the image"):
        box_id = ok(n.cli("run", "-d", "--name", "web", "--label", "a=b", box, "sh", "-c",
                          "echo start; trap 'echo bye; exit 3' TERM; while :; do sleep 0.05; done")).stdout.strip()
        assert re.fullmatch("[0-9a-f]{64}", box_id)
        ok(n.cli("ps"), out=re.compile(rf"{box_id[:12]} +web +running +(now|\d+ seconds? ago) +{re.escape(box)}\n"))
        ok(n.cli("ps", "-q"), out=f"{box_id}\n")
    with t.test("a name is given once, also when many ask at the same time"):
        ok(n.cli("run", "-d", "--name", "web", box, "true", check=False), 125, err='"web".*knarr rm web')
        many = [subprocess.Popen([n.program("knarr"), "--socket", n.user_sock, "run", "-d", "--name", "one", box, "sleep",
                                  "100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(6)]
        codes = sorted([p.communicate(timeout=60) and p.returncode for p in many])
        assert codes == [0] + [125] * 5, codes
        ok(n.cli("rm", "-f", "one"), out="one\n")
    with t.test("exec: output, exit code, 126, 127, 128+n, timeout"):
        ok(n.cli("exec", "web", "echo", "in"), out="in\n")
        done = n.cli("exec", "web", "sh", "-c", "echo o; echo e >&2; exit 5", check=False)
        assert (done.returncode, done.stdout, done.stderr) == (5, "o\n", "e\n"), done
        ok(n.cli("exec", "web", "sh", "-c", "kill -9 $$", check=False), 137)
        ok(n.cli("exec", "web", "nosuch", check=False), 127, err="nosuch")
        ok(n.cli("exec", "web", "/etc/passwd", check=False), 126, err="/etc/passwd")
        ok(n.cli("exec", "--timeout", "1", "web", "sleep", "20", check=False), 125, err="longer")
        ok(n.cli("exec", "web", check=False), 125, err="a container and a command")
        ok(n.cli("exec", box_id[:7], "echo", "by prefix"), out="by prefix\n")
    with t.test("inspect has the labels and the pid; stats a row; info and version answer"):
        ok(n.cli("inspect", "web"), out=re.compile(r'"a": "b"'))
        ok(n.cli("stats", "web"), out=re.compile(rf"\n{box_id[:12]} +web +[\d.]+% "))
        ok(n.cli("stats", "nosuch", check=False), 125, err="nosuch")
        ok(n.cli("info"), out=re.compile("RuntimeReady: yes"))
        ok(n.cli("version"), out=re.compile(r"^knarr \d+\.\d+\.\d+\nknarr \d"))
    with t.test("an image in use is not removed, whichever side uses it"):
        ok(n.cli("rmi", box, check=False), 125, err="in use")
        ok(subprocess.run([n.program("knarr"), "--socket", n.sock, "rmi", box], capture_output=True, text=True), 125,
           err="in use")
    with t.test("kubelet's socket sees none of the user's pods"):
        other = lambda *w: subprocess.run([n.program("knarr"), "--socket", n.sock, *w], capture_output=True,  # noqa: E731
                                          text=True, timeout=60)
        ok(other("ps", "-aq"), out="")
        ok(other("exec", "web", "true"), 125, err="no container")
        ok(other("rm", "-f", box_id), out="")
        ok(n.cli("ps", "-q"), out=f"{box_id}\n")
    with t.test("rm refuses what runs, and says how"):
        ok(n.cli("rm", "web", check=False), 125, err="knarr rm -f web")
    with t.test("stop asks first; the log has its last word, ps -a its exit code"):
        ok(n.cli("stop", "web"), out="web\n")
        ok(n.cli("logs", "web"), out="start\nbye\n")
        ok(n.cli("ps", "-a"), out=re.compile(r"web +exited \(3\)"))
        ok(n.cli("ps", "-q"), out="")
        ok(n.cli("exec", "web", "true", check=False), 125, err="not running")
    with t.test("rm removes it and its log; what is gone is said"):
        ok(n.cli("rm", "web"), out="web\n")
        for verb in ("rm", "logs", "stop", "inspect"):
            ok(n.cli(verb, "web", check=False), 125, err='"web"')
        ok(n.cli("rm", "-f", "web"), out="")
    with t.test("stop -t 0 kills; a negative one is refused"):
        ok(n.cli("run", "-d", "--name", "deaf", box, "sh", "-c", "trap '' TERM; while :; do sleep 1; done"))
        ok(n.cli("stop", "-t", "-1", "deaf", check=False), 125, err="at least 0")
        ok(n.cli("stop", "-t", "0", "deaf"), out="deaf\n")
        ok(n.cli("ps", "-a"), out=re.compile(r"deaf +exited \(137\)"))
        ok(n.cli("rm", "nosuch", "deaf", check=False), 125, out="deaf\n", err="nosuch")


def test_logs(t, n, box):
    with t.test("logs -f shows what was and what comes, and ends with the container"):
        ok(n.cli("run", "-d", "--name", "say", box, "sh", "-c", "for i in 1 2 3 4 5 6 7 8; do echo $i; sleep 0.2; done"))
        ok(n.cli("logs", "-f", "say"), out="1\n2\n3\n4\n5\n6\n7\n8\n")
        ok(n.cli("logs", "-t", "say"), out=re.compile(r"^\d{4}-\d\d-\d\dT[\d:.]+(Z|[+-]\d\d:\d\d) 1\n"))
        ok(n.cli("rm", "say"))
    with t.test("logs -f loses nothing over rotations, up to the last line"):
        ok(n.cli("run", "-d", "--name", "rot", box, "sh", "-c",
                 "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.01; done"))
        p = subprocess.Popen([n.program("knarr"), "--socket", n.user_sock, "logs", "-f", "rot"], stdout=subprocess.PIPE,
                             text=True)
        log = re.search(r'"log_path": "([^"]+)"', n.cli("inspect", "rot").stdout)[1]
        ident = n.cli("ps", "-aq").stdout.strip()
        for i in range(4):
            time.sleep(0.5)
            os.rename(log, f"{log}.{i}")
            reopen(n, ident)
        out = p.communicate(timeout=60)[0]
        assert p.returncode == 0 and out == "".join(f"line {i}\n" for i in range(3000)), f"{len(out)} bytes: {out[-300:]}"
        ok(n.cli("rm", "rot"))
    with t.test("logs -f shows what is written to the old file while the new one is there already"):
        ok(n.cli("run", "-d", "--name", "late", box, "sh", "-c", "echo one; until [ -e /go ]; do sleep 0.05; done; echo two; "
                 "until [ -e /gone ]; do sleep 0.05; done; echo three"))
        p = subprocess.Popen([n.program("knarr"), "--socket", n.user_sock, "logs", "-f", "late"], stdout=subprocess.PIPE,
                             text=True)
        log = re.search(r'"log_path": "([^"]+)"', n.cli("inspect", "late").stdout)[1]
        ident = n.cli("ps", "-aq").stdout.strip()
        impatience = threading.Timer(60, p.kill)
        impatience.start()
        said = p.stdout.readline()
        os.rename(log, f"{log}.1")
        open(log, "x").close()
        time.sleep(0.3)
        n.cli("exec", "late", "touch", "/go")
        said += p.stdout.readline()
        reopen(n, ident)
        n.cli("exec", "late", "touch", "/gone")
        out = said + p.communicate(timeout=60)[0]
        impatience.cancel()
        assert p.returncode == 0 and out == "one\ntwo\nthree\n", out
        ok(n.cli("rm", "late"))
    with t.test("a container that never stops writing still hears Ctrl-C"):
        term = Terminal([n.program("knarr"), "--socket", n.user_sock, "run", "--rm", "--name", "loud", box, "sh", "-c",
                         "trap 'exit 9' INT; while :; do echo a lot of text; done"])
        term.read_until(b"text")
        reader = threading.Thread(target=term.read_until, args=(None, 30))
        reader.start()
        time.sleep(0.5)
        os.kill(term.pid, signal.SIGINT)
        reader.join(30)
        assert not reader.is_alive() and term.end() == 9


def reopen(n, container):
    """ReopenContainerLog on the user's socket, by crictl's request in raw gRPC (curl speaks HTTP/2 without TLS)."""
    body = b"\x0a" + bytes([len(container)]) + container.encode()
    frame = b"\0" + len(body).to_bytes(4, "big") + body
    subprocess.run(["curl", "-s", "--http2-prior-knowledge", "--unix-socket", n.user_sock, "-H",
                    "content-type: application/grpc", "-H", "te: trailers", "--data-binary", "@-", "-o", "/dev/null",
                    "http://localhost/runtime.v1.RuntimeService/ReopenContainerLog"], input=frame, check=True, timeout=20)


def test_signals(t, n, box):
    knarr = [n.program("knarr"), "--socket", n.user_sock]
    with t.test("Ctrl-C reaches the container, whose own exit code counts"):
        term = Terminal([*knarr, "run", "--rm", box, "sh", "-c", "trap 'echo caught; exit 42' INT; echo up; while :; do sleep 0.05; done"])
        term.read_until(b"up")
        term.press(b"\x03")
        term.read_until(b"caught")
        assert term.end() == 42, term.seen
    with t.test("a second Ctrl-C kills what does not listen"):
        term = Terminal([*knarr, "run", "--rm", box, "sh", "-c", "trap '' INT; echo up; while :; do sleep 1; done"])
        term.read_until(b"up")
        term.press(b"\x03")
        term.read_until(b"once more")
        term.press(b"\x03")
        assert term.end() == 137, term.seen
    with t.test("SIGTERM and SIGHUP reach it too"):
        for sig, code in ((signal.SIGTERM, 15), (signal.SIGHUP, 1)):
            p = subprocess.Popen([*knarr, "run", "--rm", box, "sh", "-c",
                                  f"trap 'exit {code}' {code}; echo up; while :; do sleep 0.05; done"], stdout=subprocess.PIPE)
            assert p.stdout.readline() == b"up\n"
            p.send_signal(sig)
            assert p.wait(20) == code
    with t.test("Ctrl-C while a network plugin hangs ends the command, and nothing is left"):
        slow = n.dir / "slow"
        slow.mkdir()
        (slow / "bridge").write_text("#!/bin/sh\ncat > /dev/null\n[ \"$CNI_COMMAND\" = ADD ] && exec sleep 60\nexit 0\n")
        (slow / "bridge").chmod(0o755)
        with Knarrd(n.build, config="limits:\n  collect: 2s\n") as m:
            text = m.config.read_text().replace("[/usr/lib/cni, /opt/cni/bin]", f"[{slow}, /usr/lib/cni]\n  timeout: 4s")
            m.kill(signal.SIGTERM)
            m.config.write_text(text)
            m.start()
            m.cli("pull", box)
            term = Terminal([m.program("knarr"), "--socket", m.user_sock, "run", box, "true"])
            time.sleep(1)
            term.press(b"\x03")
            assert term.end() == 130, term.seen
            assert b"interrupted" in term.seen, term.seen
            until("it is undone", 20, lambda: not m.leftovers() and not m.cli("ps", "-aq").stdout)
    with t.test("a run killed with -9 leaves its pod, which rm removes"):
        p = subprocess.Popen([*knarr, "run", "--rm", "--name", "orphan", box, "sh", "-c", "echo up; sleep 100"],
                             stdout=subprocess.PIPE)
        assert p.stdout.readline() == b"up\n"
        p.kill()
        p.wait()
        ok(n.cli("ps"), out=re.compile("orphan +running"))
        ok(n.cli("rm", "-f", "orphan"), out="orphan\n")
    with t.test("killed at any moment of its way, it leaves nothing that rm cannot remove"):
        for i in range(12):
            p = subprocess.Popen([*knarr, "run", "--name", f"half{i}", box, "sleep", "100"], stdout=subprocess.DEVNULL)
            time.sleep(0.005 + i * 0.012)
            p.kill()
            p.wait()
        time.sleep(1)
        names = [line.split()[1] for line in n.cli("ps", "-a").stdout.splitlines()[1:]]
        if names:
            ok(n.cli("rm", "-f", *names))
        ok(n.cli("ps", "-aq"), out="")


def talk(port, address="127.0.0.1", prefix=()):
    return subprocess.run([*prefix, "curl", "-s", "--max-time", "5", f"http://{address}:{port}/"], capture_output=True,
                          text=True).stdout


def test_network(t, n, box, what):
    serve = "mkdir /w; echo hello > /w/index.html; exec httpd -f -p 80 -h /w"
    far = ("ip", "netns", "exec", OUTSIDE)
    with t.test(f"{what}: -p reaches the container from loopback, the host's address and another host"):
        ok(n.cli("run", "-d", "--name", "www", "-p", "18080:80", box, "sh", "-c", serve))
        until("the server answers", 10, lambda: talk(18080, HOST_IP))
        for name, got in (("host address", talk(18080, HOST_IP)), ("loopback", talk(18080)),
                          ("another host", talk(18080, HOST_IP, far))):
            assert got == "hello\n", f"{name}: {got!r}"
        assert n.cli("run", "--rm", box, "wget", "-qO-", f"http://{HOST_IP}:18080/").stdout == "hello\n", "another container"
    with t.test(f"{what}: the port is free again after rm"):
        ok(n.cli("rm", "-f", "www"))
        assert talk(18080) == "" and talk(18080, HOST_IP) == ""
    with t.test(f"{what}: -p on one address is not on the others"):
        ok(n.cli("run", "-d", "--name", "www", "-p", f"{HOST_IP}:18081:80/tcp", box, "sh", "-c", serve))
        until("the server answers", 10, lambda: talk(18081, HOST_IP))
        assert talk(18081) == ""
        ok(n.cli("rm", "-f", "www"))
    with t.test(f"{what}: -p 127.0.0.1 is not for others"):
        ok(n.cli("run", "-d", "--name", "www", "-p", "127.0.0.1:18082:80", box, "sh", "-c", serve))
        until("the server answers", 10, lambda: talk(18082))
        assert talk(18082, HOST_IP, far) == ""
        ok(n.cli("rm", "-f", "www"))
    with t.test(f"{what}: containers reach other hosts"):
        ok(n.cli("run", "--rm", box, "ping", "-c1", "-W3", OTHER_IP))


def test_private(t, build, r, box):
    with Knarrd(build, service=False, cni=False) as n:
        with t.test("a command where no knarrd answers starts its own, which says nothing"):
            done = ok(n.private("run", "--rm", box, "echo", "hi"), out="hi\n")
            assert done.stderr == "" and len(n.daemons()) == 1, (done.stderr, n.daemons())
        with t.test("it ends when nobody needs it"):
            until("it has ended", 10, lambda: not n.daemons())
            assert not n.leftovers(), n.leftovers()
        with t.test("eight at once share one"):
            many = [subprocess.Popen([n.program("knarr"), "--config", n.config, "run", "--rm", box, "sh", "-c",
                                      f"sleep 1; echo {i}"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
                    for i in range(8)]
            time.sleep(0.7)
            assert len(n.daemons()) == 1, n.daemons()
            out = [p.communicate(timeout=60)[0] for p in many]
            assert out == [f"{i}\n" for i in range(8)], out
        with t.test("without CNI configuration the default network is there"):
            test_network(t, PrivateNode(n), box, "the default network")
        with t.test("-d --rm cleans up with no daemon running meanwhile"):
            ok(n.private("run", "-d", "--rm", "--name", "bg", box, "sleep", "6"))
            until("the daemon has ended", 5.5, lambda: not n.daemons())
            assert len(n.monitors()) == 1
            until("the container is gone", 15, lambda: not n.monitors() and not n.leftovers())
            ok(n.private("ps", "-aq"), out="")
        with t.test("what was started lives on without a daemon, and a later command finds it"):
            ok(n.private("run", "-d", "--name", "stays", box, "sleep", "1000"))
            until("the daemon has ended", 10, lambda: not n.daemons())
            ok(n.private("exec", "stays", "echo", "still"), out="still\n")
        with t.test("it hands over to the service: a run in the foreground survives"):
            p = subprocess.Popen([n.program("knarr"), "--config", n.config, "run", "--rm", box, "sh", "-c",
                                  "for i in 1 2 3 4 5 6; do echo $i; sleep 0.5; done; exit 3"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            assert p.stdout.readline() == "1\n"
            began = time.monotonic()
            n.start()
            took = time.monotonic() - began
            assert took < 30, f"the service waited {took:.1f} s:\n{n.log.read_text()}"
            assert p.communicate(timeout=60) == ("2\n3\n4\n5\n6\n", "") and p.returncode == 3
            assert n.daemons() == [n.process.pid]
            ok(n.cli("ps"), out=re.compile("stays +running"))
        with t.test("a service killed and started again is not noticed by a run in the foreground"):
            p = subprocess.Popen([n.program("knarr"), "--socket", n.user_sock, "run", "--rm", box, "sh", "-c",
                                  "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done; exit 4"], stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
            assert p.stdout.readline() == "1\n"
            n.kill()
            n.start()
            assert p.communicate(timeout=60) == ("2\n3\n4\n5\n6\n", "") and p.returncode == 4
        with t.test("while a service has the folders, no private one comes beside it"):
            ok(n.private("ps"), out=re.compile("stays"))
            assert n.daemons() == [n.process.pid]
            ok(n.private("rm", "-f", "stays"))
        n.kill(signal.SIGTERM)
    with Knarrd(build, service=False) as n:
        with t.test("a bad configuration is the command's one sentence"):
            good = n.config.read_text()
            n.config.write_text(good + "frob: 1\n")
            ok(n.private("ps", check=False), 125, err=r"knarrd\.yaml:\d+: frob: unknown key")
            ok(subprocess.run([n.program("knarr"), "--config", "/nosuch.yaml", "ps"], capture_output=True, text=True), 125,
               err="/nosuch.yaml")
            n.config.write_text(good)
        with t.test("a start that fails is one sentence, and says where the log is"):
            n.config.write_text(good.replace(f"root: {n.root}", "root: /proc/nosuch"))
            ok(n.private("ps", check=False), 125, err=r"/proc/nosuch.*private\.log|private\.log.*/proc/nosuch")
            n.config.write_text(good)
        with t.test("a relative --config works from where the user stands"):
            ok(subprocess.run([n.program("knarr"), "--config", n.config.name, "ps", "-q"], capture_output=True, text=True,
                              cwd=n.dir), out="")
        with t.test("a named socket that nobody serves is said"):
            ok(subprocess.run([n.program("knarr"), "--socket", "/nosuch.sock", "ps"], capture_output=True, text=True), 125,
               err="/nosuch.sock.*running")
        with t.test("who is not root is told so"):
            done = subprocess.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups",
                                   n.program("knarr"), "ps"], capture_output=True, text=True)
            ok(done, 125, err="root")


class PrivateNode:
    """cli() by a private knarrd."""

    def __init__(self, n):
        self.cli = n.private


def test_disk(t, n, box):
    with t.test("a full disk is one sentence, and takes nothing with it"):
        full = n.dir / "full"
        full.mkdir()
        sh("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", full)
        try:
            m = Knarrd(n.build, service=False)
            m.root = full / "root"
            with m:
                m.start()
                ok(m.cli("pull", box, check=False), 125, err="[Nn]o space left")
                ok(m.cli("images", "-q"), out="")
                ok(m.cli("run", "--rm", box, "true", check=False), 125, err="[Nn]o space left")
                ok(m.cli("ps", "-aq"), out="")
                m.kill(signal.SIGTERM)
        finally:
            sh("umount", "-l", full)


def main():
    into_own_namespaces()
    build = pathlib.Path(os.environ.get("KNARR_BUILD", "build")).resolve()
    only = sys.argv[1:]
    want = lambda name: not only or name in only  # noqa: E731
    t = Tap()
    with Registry() as r, Knarrd(build) as n:
        box = f"{r.address}/t/busybox:1"
        Image([busybox_layer()]).push(r.address, "t/busybox", "1")
        for name, test in (("images", lambda: test_images(t, n, r, box)), ("run", lambda: test_run(t, n, box)),
                           ("life", lambda: test_life(t, n, box)), ("logs", lambda: test_logs(t, n, box)),
                           ("signals", lambda: test_signals(t, n, box)),
                           ("network", lambda: test_network(t, n, box, "a configured network")),
                           ("private", lambda: test_private(t, build, r, box)), ("disk", lambda: test_disk(t, n, box))):
            if want(name):
                test()
    t.end()


if __name__ == "__main__":
    main()
