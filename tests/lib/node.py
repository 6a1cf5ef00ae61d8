"""A private knarrd for a test: roots, sockets, bridge and subnet of its own, and a look at what it leaves behind."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time


class Tap:
    """Counts promises in TAP. `with tap.test("promise"):` is ok unless the block raises."""

    def __init__(self):
        self.count, self.failed = 0, 0

    @contextlib.contextmanager
    def test(self, promise):
        self.count += 1
        try:
            yield
        except Exception as problem:  # any failure of the block is the test's
            self.failed += 1
            print(f"not ok {self.count} - {promise}")
            print("# " + f"{type(problem).__name__}: {problem}".replace("\n", "\n# "), flush=True)
        else:
            print(f"ok {self.count} - {promise}", flush=True)

    def skip(self, promise, missing):
        """Only for a kernel feature that this machine lacks, which it names."""
        self.count += 1
        print(f"ok {self.count} - {promise} # SKIP {missing}", flush=True)

    def end(self):
        print(f"1..{self.count}")
        sys.exit(1 if self.failed else 0)


def until(what, seconds, check, every=0.05):
    """Waits until check() gives something true, and returns it."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(every)


class Knarrd:
    """`with Knarrd(build) as node:` — node.sock is kubelet's socket, node.user_sock the user's."""

    def __init__(self, build, config="", keep=False, cni=True, service=True, driver="cgroupfs"):
        self.service = service  # else none runs until start(): for private ones
        self.build, self.extra, self.keep, self.cni = pathlib.Path(build), config, keep, cni
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-"))
        self.name = self.dir.name.rsplit("-", 1)[1][:6].lower().replace("_", "x")
        self.root, self.run = self.dir / "root", self.dir / "run"
        self.sock, self.user_sock = self.run / "knarrd.sock", self.run / "user.sock"
        self.log = self.dir / "knarrd.log"
        self.bridge = f"kn{self.name}"
        self.cgroup = f"knarr-test-{self.name}"
        self.bin_dirs = ["/usr/lib/cni", "/opt/cni/bin"]
        self.octet = 1 + sum(self.name.encode()) * 7 % 250
        self.process, self.programs, self.driver, self.env = None, {}, driver, {}
        self.slice = f"knarrtest{self.name}"  # with the systemd driver: of all our units

    def write_config(self):
        self.dir.joinpath("cni").mkdir(exist_ok=True)
        self.dir.joinpath("hosts.d").mkdir(exist_ok=True)
        if self.cni:
            self.dir.joinpath("cni/10-test.conflist").write_text(json.dumps({
                "cniVersion": "1.0.0", "name": f"knarr-test-{self.name}", "plugins": [
                    {"type": "bridge", "bridge": self.bridge, "isGateway": True, "ipMasq": False, "hairpinMode": True,
                     "ipam": {"type": "host-local", "dataDir": str(self.dir / "ipam"),
                              "ranges": [[{"subnet": f"10.244.{self.octet}.0/24"}]],
                              "routes": [{"dst": "0.0.0.0/0"}]}},
                    {"type": "portmap", "capabilities": {"portMappings": True}}]}))
        self.config = self.dir / "knarrd.yaml"
        self.config.write_text(f"""root: {self.root}
run: {self.run}
socket: {self.sock}
user_socket: {self.user_sock}
libexec: {self.libexec()}
hosts_dirs: [{self.dir}/hosts.d]
registries_conf: {self.dir}/registries.conf
certs_dirs: [{self.dir}/certs.d]
cdi_dirs: [{self.dir}/cdi-low, {self.dir}/cdi]
cni:
  conf_dir: {self.dir}/cni
  bin_dirs: [{", ".join(map(str, self.bin_dirs))}]
cgroup:
  driver: {self.driver}
  monitor_parent: {f"/{self.slice}.slice/knarr.scope" if self.driver == "systemd" else f"/{self.cgroup}"}
  pod_parent: {f"/{self.slice}-pods.slice" if self.driver == "systemd" else f"/{self.cgroup}-pods"}
nri:
  socket: {self.run}/nri.sock
  plugin_dir: {self.dir}/nri/plugins
  config_dir: {self.dir}/nri/conf.d
{self.extra}
""")

    def libexec(self):
        """The helpers lie in the rooms that build them; a folder of links brings them together."""
        where = self.dir / "libexec"
        where.mkdir(exist_ok=True)
        for name in ("knarr-pod", "knarr-pull", "knarr-unpack", "knarr-oci"):
            for found in self.build.rglob(name):
                if found.is_file() and not (where / name).exists():
                    (where / name).symlink_to(found.resolve())
        return where

    def program(self, name):
        if name not in self.programs:
            self.programs[name] = next(p for p in self.build.rglob(name) if p.is_file() and os.access(p, os.X_OK))
        return self.programs[name]

    def start(self, wait=True, fault="", **popen):
        """fault: "TABLE.STEP:kill", see src/base/steps.h."""
        env = {**os.environ, **self.env, **({"KNARR_FAULT": fault} if fault else {})}
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([self.program("knarrd"), "--config", self.config], env=env,
                                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, **popen)
        if wait:
            until("knarrd's socket", 20, lambda: self.listens() or self.process.poll() is not None)
            if self.process.poll() is not None:
                raise AssertionError(f"knarrd ended at once:\n{self.log.read_text()[-3000:]}")

    def listens(self):
        """A socket file may be left of a killed one, and still be served by a child of it that is about to execute."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.sock))
            pid, _, _ = struct.unpack("iii", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            return pid == self.process.pid
        return False

    def kill(self, sig=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(sig)
            self.process.wait(30)

    def cli(self, *words, check=True, timeout=60, text=True, **kw):
        """The user's command, on the user's socket."""
        done = subprocess.run([self.program("knarr"), "--socket", self.user_sock, *map(str, words)], capture_output=True,
                              text=text, timeout=timeout, stdin=subprocess.DEVNULL, **kw)
        if check and done.returncode:
            raise AssertionError(f"knarr {' '.join(map(str, words))} exits with {done.returncode}: {done.stderr}")
        return done

    def private(self, *words, check=True, timeout=60, text=True, **kw):
        """The user's command with this node's configuration alone: it starts a private knarrd where none answers."""
        return subprocess.run([self.program("knarr"), "--config", self.config, *map(str, words)], check=check,
                              capture_output=True, text=text, timeout=timeout, stdin=subprocess.DEVNULL, **kw)

    def daemons(self):
        """The pids of knarrd processes that run with this node's configuration."""
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = p.joinpath("cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"knarrd") and str(self.config).encode() in words:
                    found.append(int(p.name))
        return found

    def monitors(self):
        """The pids of our knarr-pod processes: they have a cgroup of their own."""
        found = set()
        for cgroup in self.cgroups():
            if cgroup.name in (self.cgroup, "knarr.scope"):
                with contextlib.suppress(OSError):
                    found |= {int(pid) for pid in cgroup.joinpath("cgroup.procs").read_text().split()}
        return sorted(pid for pid in found if not self.is_holder(pid))

    @staticmethod
    def is_holder(pid):
        with contextlib.suppress(OSError):
            return b"--hold" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return False

    def cgroups(self):
        """Our cgroups in every hierarchy, the deepest first."""
        base = pathlib.Path("/sys/fs/cgroup")
        tops = [base] if (base / "cgroup.controllers").exists() else [d for d in base.iterdir() if d.is_dir()]
        found = []
        for top in tops:
            for own in (top / self.cgroup, top / f"{self.cgroup}-pods", top / f"{self.slice}.slice"):
                found += [p for p in [own, *own.rglob("*")] if p.is_dir()]
        return sorted(found, key=lambda p: -len(p.parts))

    def leftovers(self):
        """What must not be there once every pod is removed; the two parent cgroups may stay."""
        left = [str(c) for c in self.cgroups() if self.cgroup in c.parent.parts or f"{self.cgroup}-pods" in c.parent.parts]
        netns = pathlib.Path("/run/netns")
        if netns.exists():
            pods = {d.name for d in (self.root / "pods").glob("*")} if (self.root / "pods").exists() else set()
            left += [f"netns {n.name}" for n in netns.iterdir() if n.name.removeprefix("knarr-") in pods]
        mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        left += [m for m in mounts if str(self.root) in m or str(self.run) in m]
        left += [f"knarr-pod {p}" for p in self.monitors()]
        return left

    def __enter__(self):
        self.write_config()
        if self.service:
            self.start()
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)  # a fault may have stopped it
        self.kill(signal.SIGTERM)
        for pid in self.daemons():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in self.monitors():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
                target = line.split()[4]
                if target.startswith(str(self.dir)):
                    subprocess.run(["umount", "-l", target], check=False)
        for _ in range(40):  # what was killed a moment ago is still in them
            for cgroup in self.cgroups():
                with contextlib.suppress(OSError):
                    cgroup.rmdir()
            if not self.cgroups():
                break
            time.sleep(0.05)
        subprocess.run(["ip", "link", "del", self.bridge], stderr=subprocess.DEVNULL, check=False)
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)
