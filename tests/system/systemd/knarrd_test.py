#!/usr/bin/env python3
"""knarrd with the systemd cgroup driver: pods in kubelet's slices, containers and knarr-pods in scopes; killed at each step.

Where this machine runs systemd it is that one; elsewhere a manager of the tests' own, whose cgroups are as real."""
import contextlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "kill"), str(HERE.parents[1] / "lib")]
from systemd import FakeSystemd, Refused, slice_path  # noqa: E402
from world import Rpc, Tap, World, refused, until  # noqa: E402

REAL = os.path.isdir("/run/systemd/system")
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
ROOT = pathlib.Path("/sys/fs/cgroup")
MEMORY = {"linux": {"memory_limit_in_bytes": str(64 << 20)}}


class Node(World):
    """A World whose pods' slices are below one of its own."""

    def __init__(self, fake, **kw):
        super().__init__(driver="systemd", **kw)
        self.fake = fake
        self.env = fake.env if fake else {}

    def pod_config(self, name, *words, parent=None, **more):
        config = super().pod_config(name, *words, **more)
        leaf = f"{self.slice}-pod{name}.slice"
        config["linux"]["cgroup_parent"] = parent or f"/{slice_path(leaf)}"
        return config

    def unit(self, name):
        """Its properties; None: there is no such unit."""
        if self.fake:
            return self.fake.units.get(name)
        done = subprocess.run(["systemctl", "show", name], capture_output=True, text=True, check=True)
        found = dict(line.split("=", 1) for line in done.stdout.splitlines())
        return found if found["LoadState"] == "loaded" else None

    def holders(self):
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = p.joinpath("cmdline").read_bytes().split(b"\0")
                inside = f"/{self.slice}" in p.joinpath("cgroup").read_text()
                if words[:2] == [b"knarr-pod", b"--hold"] and inside:
                    found.append(int(p.name))
        return found

    def scopes(self):
        """The containers' scopes that have a cgroup."""
        return {c.name for c in self.cgroups() if c.name.startswith("knarr-") and c.name.endswith(".scope")}


def cgroups_of(pid):
    return [line.split(":", 2)[2] for line in pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()]


def run_lives(tap, w):
    with tap.test("kubelet is told the driver"):
        assert w.cri.RuntimeConfig()["linux"]["cgroupDriver"] == "SYSTEMD", w.cri.RuntimeConfig()
    pod = w.run_pod("a")
    with tap.test("a container is a scope in its pod's slice, in every hierarchy"):
        k = w.create(pod, "a", "c", "/bin/sh", "-c", "sleep 1000")
        w.cri.StartContainer(container_id=k)
        scope = f"knarr-{k}.scope"
        want = f"/{slice_path(w.slice + '-poda.slice')}/{scope}"
        assert set(cgroups_of(w.pid(k))) == {want}, f"{cgroups_of(w.pid(k))}, not {want}"
        assert w.unit(scope), "systemd does not know it"
    with tap.test("the knarr-pods have a scope of their own, outside of the pod's slice"):
        monitors = until("a knarr-pod", 20, w.monitors)
        for pid in monitors:
            assert set(cgroups_of(pid)) == {f"/{w.slice}.slice/knarr.scope"}, cgroups_of(pid)
    with tap.test("exec works, and stays in the scope"):
        out = w.cri.ExecSync(container_id=k, cmd=["cat", "/proc/self/cgroup"], timeout="20")
        assert out.get("exitCode", 0) == 0, out
    with tap.test("an update is told to systemd and to the kernel"):
        w.cri.UpdateContainerResources(container_id=k, linux={"memory_limit_in_bytes": str(48 << 20)})
        prop = w.unit(scope)["MemoryMax" if V2 else "MemoryLimit"]
        assert str(prop) == str(48 << 20), prop
        file = ROOT / want[1:] / "memory.max" if V2 else ROOT / "memory" / want[1:] / "memory.limit_in_bytes"
        assert file.read_text().strip() == str(48 << 20)
    with tap.test("a slice may be named alone; what is no slice is refused, with the reason"):
        b = w.cri.RunPodSandbox(config=w.pod_config("b", parent=f"{w.slice}-podb.slice"))["podSandboxId"]
        w.remove_pod(b)
        refused("InvalidArgument", "is no slice", lambda: w.run_pod("n", parent="/kubepods/podx"))
    with tap.test("a container that ends takes its scope along; a new one starts"):
        short = w.start_container(pod, "a", "short", "/bin/sh", "-c", "exit 3")
        assert w.exited(short)["exitCode"] == 3
        until("no unit", 20, lambda: not w.unit(f"knarr-{short}.scope"))
        w.cri.RemoveContainer(container_id=short)
    with tap.test("knarrd killed and started: container, scope and the knarr-pods' scope are as they were"):
        pid = w.pid(k)
        w.restart()
        assert w.pid(k) == pid and w.unit(scope) and w.unit("knarr.scope")
        assert w.status(k)["state"] == "CONTAINER_RUNNING"
        until("one holder", 20, lambda: len(w.holders()) == 1)
    with tap.test("a removed pod leaves no unit and no cgroup but the knarr-pods'"):
        w.remove_pod(pod)
        until("no unit", 20, lambda: not w.unit(scope))
        until("no scope", 20, lambda: not w.scopes())


def run_killed(tap, w):
    for point in ("start.holder", "start.scope", "start.ask", "start.answered"):
        with tap.test(f"knarrd killed at {point}: nothing is left that no pod knows, and the pod can be removed"):
            name = point.replace("start.", "k")
            w.restart(fault=f"{point}:kill")
            pod = w.run_pod(name)
            k = w.create(pod, name, "c", "/bin/sh", "-c", "sleep 1000")
            with contextlib.suppress(Rpc):
                w.cri.StartContainer(container_id=k)
            w.died()
            w.restart()
            until("one holder", 20, lambda: len(w.holders()) == 1)
            state = w.status(k)["state"]
            assert state in ("CONTAINER_RUNNING", "CONTAINER_EXITED", "CONTAINER_CREATED"), state
            if state != "CONTAINER_RUNNING":
                until("no unit", 20, lambda: not w.unit(f"knarr-{k}.scope"))
            w.remove_pod(pod)
            until("no unit", 20, lambda: not w.unit(f"knarr-{k}.scope"))
            until("no scope", 20, lambda: not w.scopes())


def run_refused(tap, w):
    with tap.test("what systemd refuses is the start's error, and the container can go"):
        pod = w.run_pod("r")
        k = w.create(pod, "r", "c", "/bin/sh", "-c", "sleep 1000")
        w.fake.refuse["StartTransientUnit"] = [Refused("org.freedesktop.DBus.Error.AccessDenied", "Not today.")]
        try:
            w.cri.StartContainer(container_id=k)
            raise AssertionError("it was started")
        except Rpc as e:
            assert f"knarr-{k}.scope" in e.message and "AccessDenied" in e.message, e.message
        w.remove_pod(pod)
        until("no scope", 20, lambda: not w.scopes())
    with tap.test("where no systemd answers, knarrd says so and ends"):
        w.kill()
        w.env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={w.dir}/none"}
        w.start(wait=False)
        assert w.process.wait(30) == 1
        assert f"{w.dir}/none" in w.log_tail(), w.log_tail()
        w.env = w.fake.env
        w.start()


def main():
    tap = Tap()
    with contextlib.nullcontext() if REAL else FakeSystemd() as fake:
        with Node(fake) as w:
            for part in (run_lives, run_killed) + ((run_refused,) if fake else ()):
                part(tap, w)
            if tap.failed:
                print("# " + w.log_tail(40).replace("\n", "\n# "))
    tap.end()


if __name__ == "__main__":
    main()
