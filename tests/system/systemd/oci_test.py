#!/usr/bin/env python3
"""knarr-oci --systemd-cgroup: containers as systemd's scopes.

Where this machine runs systemd (in a node of cgroup v2, say) it is that one; elsewhere a manager of the tests' own, whose
cgroups are as real. TAP on stdout."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "lib"))
from node import Tap, until  # noqa: E402
from systemd import FakeSystemd, Refused, slice_path  # noqa: E402

OCI = pathlib.Path(os.environ["KNARR_BUILD"]) / "src/runtime/knarr-oci"
REAL = os.path.isdir("/run/systemd/system")
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
SLICE = f"knarrtest{os.getpid()}-a.slice"
CAPS = ["CAP_KILL", "CAP_MKNOD"]
ROOT = pathlib.Path("/sys/fs/cgroup")


def config(args, resources=None, path=None, annotations=None):
    return {
        "ociVersion": "1.0.2", "root": {"path": "rootfs"}, "annotations": annotations or {},
        "process": {"user": {"uid": 0, "gid": 0}, "args": args, "cwd": "/", "env": ["PATH=/bin"],
                    "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")}},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
                   {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"}],
        "linux": {"cgroupsPath": path or f"{SLICE}:pre:one",
                  "resources": {"devices": [{"allow": False, "access": "rwm"}], **(resources or {})},
                  "namespaces": [{"type": t} for t in ("pid", "ipc", "uts", "mount", "network")]},
    }


class World:
    def __init__(self, fake):
        self.fake = fake
        self.top = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-"))
        (self.top / "rootfs/bin").mkdir(parents=True)
        shutil.copy("/bin/busybox", self.top / "rootfs/bin/busybox")
        for name in ("sh", "sleep", "cat", "true", "echo", "mknod", "dd"):
            (self.top / "rootfs/bin" / name).symlink_to("busybox")
        self.id = f"knarr-test-{os.getpid()}"
        self.env = {**os.environ, **(fake.env if fake else {})}

    def oci(self, *words, want=0, env=None, prefix=()):
        with open(self.top / "out", "w+") as out, open(self.top / "err", "w+") as err:
            done = subprocess.run([*prefix, OCI, "--root", self.top / "state", "--systemd-cgroup", *words], env=env or self.env,
                                  stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=120, check=False)
        said = (self.top / "out").read_text() + (self.top / "err").read_text()
        assert done.returncode == want, f"{words}: {done.returncode}: {said}"
        return said

    def write(self, *args, **kw):
        (self.top / "config.json").write_text(json.dumps(config(list(args), **kw)))

    def run(self, *args, want=0, **kw):
        self.write(*args, **kw)
        return self.oci("run", "-b", self.top, self.id, want=want)

    def begin(self, *args, **kw):
        self.write(*(args or ("sleep", "1000")), **kw)
        self.oci("create", "-b", self.top, self.id)
        self.oci("start", self.id)

    def state(self):
        return json.loads(self.oci("state", self.id))

    def end(self):
        self.oci("delete", "--force", self.id)

    def unit(self, name):
        """The unit's properties, None: there is no such unit."""
        if self.fake:
            return self.fake.units.get(name)
        done = subprocess.run(["systemctl", "show", name], capture_output=True, text=True, check=True)
        found = dict(line.split("=", 1) for line in done.stdout.splitlines())
        return found if found["LoadState"] == "loaded" else None

    def has(self, name, prop, fake, real):
        got = self.unit(name).get(prop)
        assert got == (fake if self.fake else real), f"{prop} of {name}: {got}"

    def close(self):
        subprocess.run([OCI, "--root", self.top / "state", "delete", "--force", self.id], capture_output=True, env=self.env,
                       check=False)
        shutil.rmtree(self.top)


def folders(scope, slice_name=SLICE):
    """Where the scope's cgroup is, in any hierarchy."""
    path = f"{slice_path(slice_name)}/{scope}"
    roots = [ROOT] if V2 else [d for d in ROOT.iterdir() if d.is_dir()]
    return [r / path for r in roots if (r / path).is_dir()]


def file_of(scope, controller, v2, v1, slice_name=SLICE):
    base = ROOT if V2 else ROOT / controller
    return (base / slice_path(slice_name) / scope / (v2 if V2 else v1)).read_text().strip()


LIMITS = {"memory": {"limit": 64 << 20}, "pids": {"limit": 20}, "cpu": {"shares": 512, "quota": 25500, "period": 50000}}


def lives(tap, w):
    with tap.test("a container is a scope in its slice, delegated and accounted, with its process in every hierarchy"):
        w.begin(resources=LIMITS)
        pid = w.state()["pid"]
        lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
        outside = [line for line in lines if not line.endswith(f"/{slice_path(SLICE)}/pre-one.scope")]
        assert not outside, outside
        w.has("pre-one.scope", "Delegate", True, "yes")
        w.has("pre-one.scope", "MemoryAccounting", True, "yes")
        w.has("pre-one.scope", "CollectMode", "inactive-or-failed", "inactive-or-failed")
    with tap.test("systemd knows the limits, and the kernel has them to the byte"):
        memory = "MemoryMax" if V2 else "MemoryLimit"
        w.has("pre-one.scope", memory, 64 << 20, str(64 << 20))
        w.has("pre-one.scope", "TasksMax", 20, "20")
        w.has("pre-one.scope", "CPUQuotaPerSecUSec", 510000, "510ms")
        w.has("pre-one.scope", "DevicePolicy", "strict", "strict")
        assert file_of("pre-one.scope", "memory", "memory.max", "memory.limit_in_bytes") == str(64 << 20)
        assert file_of("pre-one.scope", "pids", "pids.max", "pids.max") == "20"
        assert file_of("pre-one.scope", "cpu", "cpu.max", "cpu.cfs_quota_us") == ("25500 50000" if V2 else "25500")
    with tap.test("only the container's own processes are in the scope"):
        inside = set(file_of("pre-one.scope", "pids", "cgroup.procs", "cgroup.procs").split())
        assert inside == {str(pid)}, inside
    with tap.test("an exec joins the scope; pause and resume freeze it"):
        assert w.oci("exec", w.id, "cat", "/proc/self/cgroup").count("pre-one.scope") >= 1
        w.oci("pause", w.id)
        assert w.state()["status"] == "paused"
        w.oci("resume", w.id)
        assert w.state()["status"] == "running"
    with tap.test("update tells systemd and the kernel; a container that was frozen stays so"):
        w.oci("update", "--memory", str(48 << 20), "--pids-limit", "30", w.id)
        w.has("pre-one.scope", memory, 48 << 20, str(48 << 20))
        w.has("pre-one.scope", "TasksMax", 30, "30")
        assert file_of("pre-one.scope", "memory", "memory.max", "memory.limit_in_bytes") == str(48 << 20)
        w.oci("pause", w.id)
        w.oci("update", "--pids-limit", "31", w.id)
        assert w.state()["status"] == "paused"
        w.oci("resume", w.id)
    if not w.fake:
        with tap.test("a daemon-reload changes no limit and no device"):
            before = [file_of("pre-one.scope", "", f, "") for f in ("memory.max", "pids.max", "cpu.max", "cpu.weight")]
            subprocess.run(["systemctl", "daemon-reload"], check=True)
            after = [file_of("pre-one.scope", "", f, "") for f in ("memory.max", "pids.max", "cpu.weight")]
            assert after == before[:2] + before[3:], f"{before} became {after}"
            assert w.oci("exec", w.id, "sh", "-c", "echo x > /dev/null && dd if=/dev/zero of=/dev/null count=1") is not None
            w.oci("exec", w.id, "sh", "-c", "mknod /dev/m b 8 0 && dd if=/dev/m of=/dev/null count=1", want=1)
    with tap.test("a delete leaves neither unit nor cgroup"):
        w.oci("delete", w.id, want=1)
        w.oci("kill", w.id, "KILL")
        until("stopped", 20, lambda: w.state()["status"] == "stopped")
        w.oci("delete", w.id)
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
        until("no cgroup", 20, lambda: not folders("pre-one.scope"))


def ends(tap, w):
    with tap.test("run gives the exit code, and nothing is left"):
        w.run("sh", "-c", "exit 7", want=7)
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
        until("no cgroup", 20, lambda: not folders("pre-one.scope"))
    with tap.test("a limit of one process is enough for one process"):
        w.run("true", resources={"pids": {"limit": 1}})
    with tap.test("a program that is not there leaves neither unit nor cgroup nor state"):
        said = w.run("nosuch", want=1)
        assert "nosuch" in said, said
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
        until("no cgroup", 20, lambda: not folders("pre-one.scope"))
        assert not (w.top / "state" / w.id).exists()
    with tap.test("a second container for the same unit is refused and the first one lives on"):
        w.begin()
        said = w.oci("run", "-b", w.top, f"{w.id}-2", want=1)
        assert "pre-one.scope" in said and "not empty" in said, said
        assert w.state()["status"] == "running"
        w.end()
    with tap.test("a process that ends by itself takes the scope along"):
        w.begin("true")
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
        w.end()


def names(tap, w):
    with tap.test("a cgroupsPath that is no slice:prefix:name is refused in runc's words"):
        said = w.run("true", path="/a/b", want=1)
        assert 'expected cgroupsPath to be of format "slice:prefix:name"' in said, said
        assert "cannot be a slice's name" in w.run("true", path="a--b.slice:x:y", want=1)
        assert "cannot be a unit's name" in w.run("true", path=f"{SLICE}:x:a/b", want=1)
    with tap.test("annotations org.systemd.property.* become properties"):
        w.begin(annotations={"org.systemd.property.TimeoutStopSec": "7", "org.systemd.property.Description": "'mine'"})
        w.has("pre-one.scope", "TimeoutStopUSec", 7000000, "7s")
        w.has("pre-one.scope", "Description", "mine", "mine")
        w.end()
        said = w.run("true", annotations={"org.systemd.property.TimeoutStopSec": "soon"}, want=1)
        assert "org.systemd.property.TimeoutStopSec" in said and "character 1" in said, said
    with tap.test("what systemd refuses is told with unit, words and D-Bus error"):
        said = w.run("true", annotations={"org.systemd.property.NoSuchThing": "true"}, want=1) if not w.fake else refused(w)
        assert "pre-one.scope" in said and "org.freedesktop.DBus.Error" in said, said
        assert not (w.top / "state" / w.id).exists()
    with tap.test("where no systemd answers, that is said, with the socket"):
        w.write("true")
        said = w.oci("run", "-b", w.top, w.id, want=1, env={**w.env, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={w.top}/none"})
        assert f"{w.top}/none" in said, said


def refused(w):
    w.fake.refuse["StartTransientUnit"] = [Refused("org.freedesktop.DBus.Error.PropertyReadOnly", "Cannot set that.")]
    return w.run("true", want=1)


def troubles(tap, w):
    with tap.test("a failed unit of that name is forgotten, and the start tried again"):
        w.fake.units["pre-one.scope"] = {"path": f"{slice_path(SLICE)}/gone", "kept": True}
        w.fake.refuse["StartTransientUnit"] = [Refused("org.freedesktop.systemd1.UnitExists", "Unit exists.")]
        w.run("true")
        assert [c[0] for c in w.fake.calls].count("ResetFailedUnit") >= 1
    with tap.test("a job that fails is an error, and nothing is left"):
        w.fake.results["StartTransientUnit"] = "failed"
        said = w.run("true", want=1)
        del w.fake.results["StartTransientUnit"]
        assert 'pre-one.scope: its job ended as "failed"' in said, said
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
    with tap.test("root of a user namespace asks the user's own systemd, whose cgroup is above the slice"):
        env = {k: v for k, v in w.env.items() if k not in ("DBUS_SYSTEM_BUS_ADDRESS", "XDG_RUNTIME_DIR")}
        w.fake.refuse["StartTransientUnit"] = [Refused("org.freedesktop.DBus.Error.AccessDenied", "Not here.")]
        w.write("true")
        said = w.oci("run", "-b", w.top, w.id, want=1, env=env, prefix=("unshare", "-Urm"))
        assert "neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR" in said, said
        env["DBUS_SESSION_BUS_ADDRESS"] = w.env["DBUS_SYSTEM_BUS_ADDRESS"]
        said = w.oci("run", "-b", w.top, w.id, want=1, env=env, prefix=("unshare", "-Urm"))
        assert "pre-one.scope: Not here. (org.freedesktop.DBus.Error.AccessDenied)" in said, said
        assert ("Get", ("org.freedesktop.systemd1.Manager", "ControlGroup")) in w.fake.calls, w.fake.calls
    with tap.test("a delete goes on where systemd cannot be asked"):
        w.begin()
        w.oci("delete", "--force", w.id, env={**w.env, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={w.top}/none"})
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
    with tap.test("a knarr-oci killed while the container is made leaves nothing that lives"):
        w.write("true")
        w.fake.lock.acquire()
        try:
            p = subprocess.Popen([OCI, "--root", w.top / "state", "--systemd-cgroup", "run", "-b", w.top, w.id], env=w.env,
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            children = lambda: pathlib.Path(f"/proc/{p.pid}/task/{p.pid}/children").read_text().split()  # noqa: E731
            holder = until("its holder", 20, children)[0]
            p.send_signal(signal.SIGKILL)
            p.wait()
        finally:
            w.fake.lock.release()
        until("the holder has gone", 20, lambda: not os.path.exists(f"/proc/{holder}") or
              " Z" in pathlib.Path(f"/proc/{holder}/stat").read_text().rpartition(")")[2][:3])
        until("no unit", 20, lambda: not w.unit("pre-one.scope"))
        w.oci("delete", "--force", w.id)
        until("no cgroup", 20, lambda: not folders("pre-one.scope"))


def main():
    tap = Tap()
    if os.geteuid():
        tap.skip("containers are systemd's scopes", "root")
        tap.end()
        return
    with contextlib.nullcontext() if REAL else FakeSystemd() as fake:
        w = World(fake)
        try:
            for part in (lives, ends, names) + ((troubles,) if fake else ()):
                part(tap, w)
        finally:
            w.close()
    tap.end()


if __name__ == "__main__":
    main()
