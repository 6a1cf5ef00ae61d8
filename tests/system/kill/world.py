"""What the tests of this folder share: a node, an image, a pod that lives through everything, and a look at the machine
before and after."""
import contextlib
import json
import os
import pathlib
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "lib"))
import cri       # noqa: E402
import handler   # noqa: E402
import images    # noqa: E402
import node      # noqa: E402
import registry  # noqa: E402
from cri import Rpc, refused   # noqa: E402,F401
from node import Tap, until    # noqa: E402,F401

NODE, POD, CONTAINER = "NODE", "POD", "CONTAINER"


class World(node.Knarrd):
    """`with World() as w`: w.cri is kubelet, w.reg a registry with w.image."""

    def __init__(self, config="", **kw):
        super().__init__(os.environ["KNARR_BUILD"], **kw)
        program, _ = handler.take(sys.argv[1:])
        self.extra = f"netns_dir: {self.dir}/netns\n{handler.config(program)}{config}"
        self.serial = 0

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.reg = self.stack.enter_context(registry.Registry())
        self.image = self.push("box")
        self.write_config()
        hosts = self.dir / "hosts.d" / self.reg.address
        hosts.mkdir(parents=True)
        hosts.joinpath("hosts.toml").write_text(f'server = "http://{self.reg.address}"\n')
        super().__enter__()
        self.cri = self.stack.enter_context(cri.Cri(cri.build_cric(self.build), self.sock))
        self.cri.wait_ready()
        self.cri.PullImage(image={"image": self.image})
        return self

    def __exit__(self, *problem):
        super().__exit__(*problem)
        self.stack.close()

    def push(self, name, extra=(), command=("sleep", "1000")):
        images.Image([images.busybox_layer(extra)], {"Cmd": list(command), "Env": ["PATH=/bin"]}).push(
            self.reg.address, f"t/{name}", "1")
        return f"{self.reg.address}/t/{name}:1"

    # --- knarrd's life ---

    def crash(self):
        """kill -9, and the fault of the next start is forgotten."""
        self.kill()

    def restart(self, fault=""):
        self.kill()
        self.start(fault=fault)
        return self.cri.wait_ready()

    def died(self, seconds=30):
        """Waits for the fault to have killed it."""
        code = self.process.wait(seconds)
        if code != -9:
            raise AssertionError(f"knarrd ended with {code}, it should have been killed by its fault")

    def log_tail(self, lines=15):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    # --- wishes ---

    def pod_config(self, name, net=POD, pid=CONTAINER, **more):
        return {"metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default", "attempt": 0},
                "log_directory": str(self.dir / "logs" / name), "hostname": name,
                "linux": {"cgroup_parent": f"/{self.cgroup}-pods/{name}",
                          "security_context": {"namespace_options": {"network": net, "pid": pid, "ipc": POD}}}, **more}

    def container_config(self, name, *command, net=POD, pid=CONTAINER, **more):
        return {"metadata": {"name": name, "attempt": 0}, "image": {"image": self.image}, "command": list(command),
                "log_path": f"{name}.log",
                "linux": {"security_context": {"namespace_options": {"network": net, "pid": pid, "ipc": POD}}}, **more}

    def run_pod(self, name, net=POD, **kw):
        return self.cri.RunPodSandbox(config=self.pod_config(name, net, **kw))["podSandboxId"]

    def create(self, pod, pod_name, name, *command, net=POD, pid=CONTAINER, **kw):
        return self.cri.CreateContainer(pod_sandbox_id=pod, config=self.container_config(name, *command, net=net, pid=pid, **kw),
                                        sandbox_config=self.pod_config(pod_name, net, pid))["containerId"]

    def start_container(self, pod, pod_name, name, *command, **kw):
        k = self.create(pod, pod_name, name, *command, **kw)
        self.cri.StartContainer(container_id=k)
        return k

    def remove_pod(self, pod):
        self.cri.StopPodSandbox(pod_sandbox_id=pod)
        self.cri.RemovePodSandbox(pod_sandbox_id=pod)

    # --- answers ---

    def pods(self):
        return {p["id"]: p for p in self.cri.ListPodSandbox()["items"]}

    def containers(self):
        return {k["id"]: k for k in self.cri.ListContainers()["containers"]}

    def status(self, container):
        return self.cri.ContainerStatus(container_id=container)["status"]

    def pid(self, container):
        info = self.cri.ContainerStatus(container_id=container, verbose=True)["info"]
        return int(json.loads(info["info"])["pid"])

    def exited(self, container, seconds=20):
        def look():
            s = self.status(container)
            return s if s["state"] == "CONTAINER_EXITED" else None
        return until(f"container {container} exits", seconds, look)

    def logged(self, pod_name, container):
        """The texts of a CRI log."""
        path = self.dir / "logs" / pod_name / f"{container}.log"
        return [line.split(" ", 3)[3] for line in path.read_text().splitlines()]

    # --- the machine ---

    def wait_stopped(self):
        """Until a fault has stopped knarrd."""
        until("the fault stops knarrd", 20, lambda: process_state(self.process.pid) == "T")

    def children(self):
        """knarrd's children but the monitors: plugins, knarr-pull, knarr-unpack."""
        found = set()
        with contextlib.suppress(OSError):
            for task in pathlib.Path(f"/proc/{self.process.pid}/task").iterdir():
                found |= {int(p) for p in task.joinpath("children").read_text().split()}
        return found - set(self.monitors())

    def snapshot(self):
        """Everything of ours that the machine holds, as lines."""
        # A container keeps the cgroups of its execs for the next ones.
        lines = [f"cgroup {c}" for c in self.cgroups()
                 if f"{self.cgroup}-pods" not in c.parent.parts[-1:] and not c.name.startswith("knarr-exec-")]
        lines += [f"knarr-pod {p}" for p in self.monitors()]
        lines += [f"mount {m.split(' ')[4]}" for m in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                  if str(self.dir) in m]
        for folder in ("netns", "root/pods", "root/containers", "run/pods", "root/layers", "root/content/blobs/sha256",
                       "root/content/ingest"):
            with contextlib.suppress(FileNotFoundError):
                lines += [f"{folder}/{f.name}" for f in (self.dir / folder).iterdir()]
        for network in (self.dir / "ipam").glob("*"):
            lines += [f"address {f.name}" for f in network.iterdir() if f.name[0].isdigit()]
        for link in pathlib.Path("/sys/class/net").iterdir():
            with contextlib.suppress(OSError):
                if link.joinpath("master").resolve().name == self.bridge:
                    lines.append(f"link {link.name}")
        return sorted(lines)

    def same_as(self, before, seconds=5):
        """The machine is as it was; the kernel may need a moment for what it ends by itself (veth, cgroups)."""
        until_same = time.monotonic() + seconds
        while True:
            now = self.snapshot()
            if now == before:
                return
            if time.monotonic() > until_same:
                more, less = sorted(set(now) - set(before)), sorted(set(before) - set(now))
                raise AssertionError(f"left: {more}\nmissing: {less}\n{self.log_tail()}")
            time.sleep(0.05)


def process_state(pid):
    """R, S, T, Z…; X: it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def alive(pid):
    return process_state(pid) not in "ZX"


class Keeper:
    """A pod whose container counts, and must never notice anything."""

    def __init__(self, w):
        self.w = w
        self.pod = w.run_pod("keeper")
        self.container = w.start_container(self.pod, "keeper", "count", "/bin/sh", "-c",
                                           "i=0; while true; do echo $i; i=$((i+1)); usleep 5000; done")
        self.pid, self.started = w.pid(self.container), w.status(self.container)["startedAt"]

    def check(self):
        """Same ids, same process, still counting."""
        if self.pod not in self.w.pods():
            raise AssertionError("the pod that was there is not listed")
        s = self.w.status(self.container)
        now = (s["state"], self.w.pid(self.container), s["startedAt"])
        if now != ("CONTAINER_RUNNING", self.pid, self.started):
            raise AssertionError(f"the container that ran is {now}, was {self.pid} {self.started}")

    def check_log(self):
        lines = self.w.logged("keeper", "count")
        if lines != [str(i) for i in range(len(lines))] or len(lines) < 10:
            wrong = next((i for i, text in enumerate(lines) if text != str(i)), len(lines))
            raise AssertionError(f"the log has a gap at line {wrong} of {len(lines)}")


def kubelet_clears_pod_cgroup(w, name):
    """kubelet makes and removes the pod's cgroup itself."""
    for c in w.cgroups():
        if c.name == name:
            with contextlib.suppress(OSError):
                c.rmdir()
