"""What the tests of knarr-oci under docker, podman and containerd share: a private engine's folder and cgroup, a
terminal, the kernel's own view of a container."""
import contextlib
import fcntl
import os
import pathlib
import pty
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
from images import Image, busybox_layer  # noqa: E402
from node import Tap, until  # noqa: E402,F401

CGROUPS = pathlib.Path("/sys/fs/cgroup")
V2 = (CGROUPS / "cgroup.controllers").exists()
IMAGE = "knarr.test/busybox:1"
# Says so when it is told to end, and ends with a code of its own.
SERVICE = "trap 'echo ended; exit 3' TERM; echo started; echo problem >&2; while :; do sleep 0.05; done"
# The engine tells a terminal its size only after the start.
SIZE = "for i in $(seq 200); do [ \"$(stty size)\" = '33 77' ] && break; sleep 0.05; done; tty; stty size"


def missing(*programs):
    """What keeps an engine from running here; None if nothing does."""
    if os.geteuid() != 0:
        return "not root"
    absent = [p for p in programs if not shutil.which(p)]
    return f"not installed: {', '.join(absent)}" if absent else None


def equal(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r} instead of {wanted!r}")


def contains(text, part):
    if part not in text:
        raise AssertionError(f"no {part!r} in {text!r}")


class Engine:
    """A folder, a parent cgroup and an image of a private engine. A subclass starts it, and has `command`."""

    def __init__(self):
        self.oci = pathlib.Path(os.environ["KNARR_BUILD"]).resolve() / "src/runtime/knarr-oci"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-"))
        self.cgroup = self.dir.name.replace("_", "x")
        self.log = self.dir / "log"
        self.archive = self.dir / "image.tar"
        self.process = None
        self.env = {**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(self.dir)}
        Image([busybox_layer()], compress="plain").save(self.archive, IMAGE)

    def __call__(self, *words, check=True, **kw):
        """The engine's command."""
        kw.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run([*map(str, self.command), *map(str, words)], check=False, capture_output=True, text=True,
                              timeout=120, env=self.env, cwd=self.dir, **kw)
        if check and done.returncode != 0:
            raise AssertionError(f"{' '.join(map(str, words))}: code {done.returncode}: {done.stdout}{done.stderr}")
        return done

    def out(self, *words, **kw):
        return self(*words, **kw).stdout.strip()

    def serve(self, *words):
        """Starts the engine's daemon."""
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([*map(str, words)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.env, cwd=self.dir)

    def answers(self, *words):
        """Whether the daemon answers, or an error that has its log."""
        def asked():
            if self.process.poll() is not None:
                raise AssertionError(f"the daemon ended:\n{self.log.read_text()[-2000:]}")
            return self(*words, check=False).returncode == 0
        until("the daemon answers", 60, asked, every=0.1)

    def terminal(self, *words, say=b"", rows=33, columns=77):
        """The command with a terminal of that size: (exit code, all that it showed)."""
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        process = subprocess.Popen([*map(str, self.command), *map(str, words)], stdin=slave, stdout=slave, stderr=slave,
                                   env=self.env, cwd=self.dir, start_new_session=True,
                                   preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(slave)
        os.write(master, say)
        shown, end = b"", time.monotonic() + 60
        while time.monotonic() < end:
            if select.select([master], [], [], 0.1)[0]:
                try:
                    shown += os.read(master, 65536)
                except OSError:
                    break
        else:
            process.kill()
        os.close(master)
        return process.wait(10), shown.decode(errors="replace").replace("\r\n", "\n")

    def kernel(self, container, v1, v2):
        """A value in the container's cgroup: v1 is "controller/file"."""
        controller, _, file = v1.partition("/")
        top = CGROUPS if V2 else CGROUPS / controller
        found = [d for d in (top / self.cgroup).rglob(f"*{container}*") if d.is_dir()]
        if len(found) != 1:
            raise AssertionError(f"{len(found)} cgroups of {container}: {found}")
        return (found[0] / (v2 if V2 else file)).read_text().strip()

    def memory(self, container):
        return int(self.kernel(container, "memory/memory.limit_in_bytes", "memory.max"))

    def cpu(self, container):
        """CPUs by quota and period."""
        if V2:
            quota, period = self.kernel(container, "", "cpu.max").split()
        else:
            quota, period = (self.kernel(container, f"cpu/cpu.cfs_{n}_us", "") for n in ("quota", "period"))
        return int(quota) / int(period)

    def pids(self, container):
        return int(self.kernel(container, "pids/pids.max", "pids.max"))

    def frozen(self, container):
        return self.kernel(container, "freezer/freezer.state", "cgroup.freeze") in ("FROZEN", "1")

    def cgroups(self):
        """Cgroups below the parent, the deepest first."""
        tops = [CGROUPS] if V2 else [d for d in CGROUPS.iterdir() if d.is_dir()]
        found = [d for top in tops if (top / self.cgroup).is_dir() for d in (top / self.cgroup).rglob("*") if d.is_dir()]
        return sorted(found, key=lambda d: -len(d.parts))

    def states(self):
        """knarr-oci's records of this engine's containers."""
        return [str(p) for p in self.dir.rglob("state.json") if "overlay" not in p.parts]

    def mounts(self):
        return [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                if str(self.dir) in line.split()[4]]

    def storage(self):
        """overlay, or vfs where this folder's file system cannot be below one."""
        parts = [self.dir / "try" / n for n in ("lower", "upper", "work", "merged")]
        for part in parts:
            part.mkdir(parents=True)
        options = f"lowerdir={parts[0]},upperdir={parts[1]},workdir={parts[2]}"
        tried = subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, parts[3]], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", parts[3]], check=True)
        return "vfs" if tried.returncode else "overlay"

    def stop(self):
        """Ends what the engine started. Its containers are removed by the subclass."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            self.stop()
        for pid in self.strays():
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        for point in self.mounts()[::-1]:
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        for _ in range(100):
            tops = [CGROUPS] if V2 else [d for d in CGROUPS.iterdir() if d.is_dir()]
            left = self.cgroups() + [t / self.cgroup for t in tops if (t / self.cgroup).is_dir()]
            for cgroup in left:
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
            if not left:
                break
            time.sleep(0.05)
        shutil.rmtree(self.dir, ignore_errors=True)

    def strays(self):
        """Processes that name our folder on their command line (shims, conmon, a daemon's daemon)."""
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int(p.name) != os.getpid() and str(self.dir).encode() in p.joinpath("cmdline").read_bytes():
                    found.append(int(p.name))
        return found
