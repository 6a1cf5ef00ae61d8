#!/usr/bin/env python3
"""Bad input and full disks, through the real knarrd: the right gRPC code, a sentence that names the thing, nothing left
behind, others unaffected."""
import contextlib
import os
import random
import shutil
import socket
import struct
import subprocess
import tarfile
import time

from world import Keeper, Rpc, Tap, World, alive, kubelet_clears_pod_cgroup, refused, until

ROOT_MIB = 48
NOBODY = "f" * 64


class SmallDisk(World):
    """The root folder and the logs are on small disks of their own."""

    def __enter__(self):
        for folder, size in ((self.root, f"{ROOT_MIB}m"), (self.dir / "smalllogs", "256k")):
            folder.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
        return super().__enter__()

    def fill(self, folder):
        """Not a byte is left, then a page for none."""
        path = folder / "fill"
        with open(path, "wb") as f, contextlib.suppress(OSError):
            while True:
                f.write(b"x" * 65536)
                f.flush()
        return path


# --- ids, names, users -------------------------------------------------------------------------------------

def unknown_ids(w):
    c = w.cri
    for call in (lambda: c.PodSandboxStatus(pod_sandbox_id=NOBODY), lambda: c.ContainerStatus(container_id=NOBODY),
                 lambda: c.StartContainer(container_id=NOBODY), lambda: c.ContainerStats(container_id=NOBODY),
                 lambda: c.ExecSync(container_id=NOBODY, cmd=["true"]), lambda: c.ReopenContainerLog(container_id=NOBODY),
                 lambda: c.UpdateContainerResources(container_id=NOBODY, linux={"cpu_shares": "2"}),
                 lambda: w.create(NOBODY, "nowhere", "c", "true")):
        refused("NotFound", NOBODY, call)
    for call in (lambda: c.StopContainer(container_id=NOBODY), lambda: c.RemoveContainer(container_id=NOBODY),
                 lambda: c.StopPodSandbox(pod_sandbox_id=NOBODY), lambda: c.RemovePodSandbox(pod_sandbox_id=NOBODY),
                 lambda: c.RemoveImage(image={"image": f"{w.reg.address}/t/unknown:1"})):
        call()
    if c.ImageStatus(image={"image": f"{w.reg.address}/t/unknown:1"})["image"]:
        raise AssertionError("an image that is not there has a status")


def empty_requests(w):
    c = w.cri
    for call in (lambda: c.PodSandboxStatus(), lambda: c.ContainerStatus(), lambda: c.StartContainer(), lambda: c.StopContainer(),
                 lambda: c.RemoveContainer(), lambda: c.ExecSync(), lambda: c.StopPodSandbox(), lambda: c.RemovePodSandbox(),
                 lambda: c.RunPodSandbox(), lambda: c.CreateContainer(), lambda: c.PullImage(), lambda: c.RemoveImage(),
                 lambda: c.ImageStatus()):
        refused("InvalidArgument", "", call)


def unknown_things(w, keeper, before):
    c = w.cri
    refused("InvalidArgument", "nosuch", lambda: c.RunPodSandbox(config=w.pod_config("h"), runtime_handler="nosuch"))
    refused("NotFound", "t/unknown", lambda: c.PullImage(image={"image": f"{w.reg.address}/t/unknown:1"}))
    refused("InvalidArgument", "UPPER", lambda: c.PullImage(image={"image": f"{w.reg.address}/UPPER CASE:1"}))
    refused("Unavailable", "127.0.0.1:1", lambda: c.PullImage(image={"image": "127.0.0.1:1/t/box:1"}))
    pod = w.run_pod("unknown")
    config = w.container_config("c", "sleep", "1000")
    config["image"] = {"image": f"{w.reg.address}/t/unknown:1"}
    refused("NotFound", "t/unknown", lambda: c.CreateContainer(pod_sandbox_id=pod, config=config,
                                                               sandbox_config=w.pod_config("unknown")))
    for context, part in (({"run_as_username": "nobody-here"}, "nobody-here"),
                          ({"run_as_group": {"value": "5"}}, "run_as_group"),
                          ({"capabilities": {"add_capabilities": ["NET_NONSENSE"]}}, "NET_NONSENSE"),
                          ({"seccomp": {"profile_type": "Localhost", "localhost_ref": "no-such.json"}}, "no-such.json"),
                          ({"namespace_options": {"pid": "TARGET", "target_id": NOBODY, "network": "POD"}}, NOBODY)):
        config = w.container_config("c", "sleep", "1000")
        config["linux"]["security_context"].update(context)
        try:
            got = c.CreateContainer(pod_sandbox_id=pod, config=config, sandbox_config=w.pod_config("unknown"))
            raise AssertionError(f"{context} is accepted: {got}")
        except Rpc as e:
            if e.code not in ("InvalidArgument", "NotFound") or part not in e.message:
                raise AssertionError(f"{context}: {e}") from None
    k = w.create(pod, "unknown", "none", "/no/such/program")
    e = None
    try:
        c.StartContainer(container_id=k)
    except Rpc as problem:
        e = problem
    s = w.status(k)
    if not e or "/no/such/program" not in e.message or (s["state"], s["exitCode"], s["reason"]) != (
            "CONTAINER_EXITED", 128, "StartError") or not int(s["finishedAt"]):
        raise AssertionError(f"{e} {s}")
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "unknown")
    w.same_as(before)


def odd_images(w, keeper, before):
    """A passwd that is a fifo, a link out of the root, a device, endless: no CreateContainer hangs or reads the host's."""
    def entry(name, kind, link=""):
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o644
        if kind == tarfile.CHRTYPE:
            info.devmajor, info.devminor = 1, 5  # /dev/zero
        return info
    pod = w.run_pod("odd")
    for n, e in enumerate((entry("etc/passwd", tarfile.FIFOTYPE), entry("etc/passwd", tarfile.SYMTYPE, "/proc/self/mem"),
                           entry("etc/passwd", tarfile.CHRTYPE), entry("etc/passwd", tarfile.SYMTYPE, "/dev/zero"),
                           entry("etc/group", tarfile.FIFOTYPE), entry("etc", tarfile.SYMTYPE, "../../../../../../etc"))):
        image = w.push(f"odd{n}", [("etc/" + "passwd" if False else "unique", str(n).encode()), (e.name, e)])
        w.cri.PullImage(image={"image": image})
        config = w.container_config(f"c{n}", "sleep", "1000")
        config["image"] = {"image": image}
        config["linux"]["security_context"]["run_as_username"] = "app"
        call = w.cri.later("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=w.pod_config("odd"), seconds=10)
        try:
            k = call.result()["containerId"]
            w.cri.RemoveContainer(container_id=k)
        except Rpc as problem:
            if problem.code == "DeadlineExceeded":
                raise AssertionError(f"CreateContainer hangs on {e.name} of type {e.type} {e.linkname}") from None
        w.cri.RemoveImage(image={"image": image})
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "odd")
    w.same_as(before)


# --- the wire ----------------------------------------------------------------------------------------------

def message_too_large(w):
    refused("ResourceExhausted", "", lambda: w.cri.later("Version", pad=17 << 20).result())
    w.cri.later("Version", pad=15 << 20).result()  # the same connection goes on


def connect(w):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(3)
    s.connect(str(w.sock))
    return s


def rubbish_bytes(rng):
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    def frame(kind, flags, stream, payload):
        return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload
    yield rng.randbytes(4096)
    yield b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    yield preface + rng.randbytes(65536)
    yield preface + frame(4, 0, 0, b"") + frame(1, 4, 1, rng.randbytes(1000))
    yield preface + frame(4, 0, 0, b"") + frame(0, 0, 99, b"x" * 16384) * 20
    yield preface + frame(4, 0, 0, b"") + struct.pack(">I", 0xffffff)[1:] + b"\x01\x04\x00\x00\x00\x01"
    yield preface + frame(4, 0, 0, struct.pack(">HI", 4, 0xffffffff))
    yield preface + frame(4, 0, 0, b"") + b"".join(frame(6, 0, 0, b"12345678") for _ in range(5000))
    yield preface + frame(4, 0, 0, b"") + b"".join(frame(3, 0, n, b"\0\0\0\x08") for n in range(1, 4001, 2))
    yield preface + frame(4, 0, 0, b"") + b"".join(frame(4, 0, 0, b"") for _ in range(5000))
    yield preface + frame(4, 0, 0, b"") + frame(1, 0, 1, b"\x82") + b"".join(frame(9, 0, 1, b"\x82" * 4000) for _ in range(500))
    yield preface[:10]


def http2_rubbish(w):
    rng = random.Random(1)
    for n, data in enumerate(rubbish_bytes(rng)):
        s = connect(w)
        with contextlib.suppress(OSError):
            s.sendall(data)
            s.recv(65536)
        w.cri.Version()
        s.close()
    rss = resident(w)
    idle = [connect(w) for _ in range(300)]  # who only connects
    w.cri.Version()
    for s in idle:
        s.close()
    if w.process.poll() is not None:
        raise AssertionError("knarrd ended")
    if resident(w) - rss > 64 << 20:
        raise AssertionError(f"knarrd grew from {rss} to {resident(w)} bytes")


def resident(w):
    with open(f"/proc/{w.process.pid}/statm") as f:
        return int(f.read().split()[1]) * 4096


# --- disks -------------------------------------------------------------------------------------------------

def pull_on_full_disk(w, keeper, before):
    image = w.push("large", [("large", random.Random(2).randbytes((ROOT_MIB - 8) << 20))])
    refused("ResourceExhausted", "t/large", lambda: w.cri.PullImage(image={"image": image}))
    keeper.check()
    if any(image in i["repoTags"] for i in w.cri.ListImages()["images"]):
        raise AssertionError("the image that did not fit is listed")
    free = shutil.disk_usage(w.root).free
    if free < (ROOT_MIB // 2) << 20:
        raise AssertionError(f"only {free >> 20} MiB are free afterwards: {w.snapshot()}")
    small = w.push("small", [("small", b"fits")])
    w.cri.PullImage(image={"image": small})
    w.cri.RemoveImage(image={"image": small})


def pods_on_full_disk(w, keeper, before):
    pod = w.run_pod("waiting")
    ran = w.start_container(pod, "waiting", "ran", "/bin/sh", "-c", "usleep 500000; exit 5")
    fill = w.fill(w.root)
    try:
        refused("ResourceExhausted", "", lambda: w.create(pod, "waiting", "full", "sleep", "1"))
        other = None
        try:
            other = w.run_pod("full")  # needs no room but the run folder's
        except Rpc as e:
            if e.code != "ResourceExhausted":
                raise AssertionError(f"wanted ResourceExhausted: {e}") from None
        keeper.check()
        w.cri.ExecSync(container_id=keeper.container, cmd=["true"], timeout="5")
        if (s := w.exited(ran))["exitCode"] != 5:
            raise AssertionError(f"the exit on a full disk: {s}")
        if len(w.pods()) != 2 + bool(other):
            raise AssertionError(f"{w.pods()}")
        for p in filter(None, (pod, other)):  # how kubelet makes room
            w.remove_pod(p)
    finally:
        fill.unlink()
    for _ in range(2):  # the name that failed is free
        w.remove_pod(w.run_pod("full"))
    kubelet_clears_pod_cgroup(w, "waiting")
    kubelet_clears_pod_cgroup(w, "full")
    w.same_as(before)


def exit_survives_full_disk(w, keeper, before):
    """An exit that could not be written down is written once there is room, and a restart knows it."""
    pod = w.run_pod("later")
    k = w.start_container(pod, "later", "c", "/bin/sh", "-c", "usleep 300000; exit 6")
    fill = w.fill(w.root)
    w.kill()
    time.sleep(0.6)
    fill.unlink()
    time.sleep(1.3)  # it is tried each second
    w.restart()
    s = w.status(k)
    if (s["state"], s["exitCode"]) != ("CONTAINER_EXITED", 6):
        raise AssertionError(f"{s}")
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "later")
    w.same_as(before)


def start_on_full_disk(w, keeper, before):
    """knarrd starts, lists and stops on a full disk."""
    fill = w.fill(w.root)
    try:
        w.restart()
        keeper.check()
        w.cri.ExecSync(container_id=keeper.container, cmd=["true"], timeout="5")
    finally:
        fill.unlink()
    w.same_as(before)


def log_on_full_disk(w, keeper, before):
    logs = w.dir / "smalllogs"
    config = {**w.pod_config("logs"), "log_directory": str(logs)}
    pod = w.cri.RunPodSandbox(config=config)["podSandboxId"]
    k = w.cri.CreateContainer(pod_sandbox_id=pod, sandbox_config=config, config=w.container_config(
        "c", "/bin/sh", "-c", "i=0; while true; do echo $i; i=$((i+1)); [ $((i%50)) = 0 ] && usleep 3000; done"))["containerId"]
    fill = w.fill(logs)
    w.cri.StartContainer(container_id=k)
    time.sleep(0.7)
    if w.status(k)["state"] != "CONTAINER_RUNNING":
        raise AssertionError("a full log disk ends the container")
    w.cri.ExecSync(container_id=k, cmd=["true"], timeout="5")
    fill.unlink()
    log = logs / "c.log"
    text = until("the log goes on", 5, lambda: (lambda s: s if s.count("\n") > 20 else "")(log.read_text()))
    w.cri.StopContainer(container_id=k, timeout="0")
    for line in text.splitlines()[:-1]:
        if len(line.split(" ", 3)) != 4:
            raise AssertionError(f"no whole line: {line}")
    if "dropped" not in text and "lost" not in text:
        raise AssertionError(f"what was dropped is not told: {text[:500]}")
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "logs")
    log.unlink()
    w.same_as(before)


# --- two knarrds -------------------------------------------------------------------------------------------

def second_knarrd(w, keeper):
    second = subprocess.run([w.program("knarrd"), "--config", w.config], capture_output=True, text=True, timeout=60, check=False)
    if second.returncode == 0 or str(w.root) not in second.stderr:
        raise AssertionError(f"exit code {second.returncode}: {second.stderr}")
    keeper.check()
    w.cri.Version()


def bad_configurations(w):
    """--check-config: file, line and key of what is wrong, in the file and in its folder; the daemon refuses it too."""
    config, more = w.dir / "check.yaml", w.dir / "check.yaml.d"
    more.mkdir()
    for main_text, more_text, said in (
            ("nosuch: 1\n", "", "check.yaml:2: nosuch: unknown key"),
            ("limits:\n  create: soon\n", "", "check.yaml:3: limits.create"),
            ("", "cni:\n  timeout: 3s\n  bogus: 1\n", "check.yaml.d/10.yaml:3: cni.bogus: unknown key"),
            ("", "cni:\n  timeout: 3s\n", "")):
        config.write_text(f"root: {w.dir}/never\n{main_text}")
        (more / "10.yaml").write_text(more_text)
        for words in (["--check-config"], [])[:2 if said else 1]:
            done = subprocess.run([w.program("knarrd"), "--config", config, *words], capture_output=True, text=True, timeout=30)
            if bool(done.returncode) != bool(said) or said not in done.stderr:
                raise AssertionError(f"{main_text!r} {more_text!r}: exit {done.returncode}: {done.stderr}")
    if (w.dir / "never").exists():
        raise AssertionError("a refused configuration made its root")


def main():
    t = Tap()
    with SmallDisk() as w:
        keeper = Keeper(w)
        before = w.snapshot()
        with t.test("unknown ids: NOT_FOUND and the id; Stop and Remove succeed"):
            unknown_ids(w)
        with t.test("a wrong configuration: file, line and key, and nothing is begun"):
            bad_configurations(w)
        with t.test("empty requests: INVALID_ARGUMENT"):
            empty_requests(w)
        with t.test("unknown handlers, images, users, capabilities, profiles, programs: a clear error each"):
            unknown_things(w, keeper, before)
        with t.test("images whose passwd is a fifo, a device or a way out: no call hangs"):
            odd_images(w, keeper, before)
        with t.test("a message of 17 MiB: RESOURCE_EXHAUSTED, the connection goes on"):
            message_too_large(w)
        with t.test("HTTP/2 rubbish: others are answered"):
            http2_rubbish(w)
        with t.test("a second knarrd on the same state: it says so and ends"):
            second_knarrd(w, keeper)
        with t.test("a pull onto a full disk: RESOURCE_EXHAUSTED, the room comes back"):
            pull_on_full_disk(w, keeper, before)
        with t.test("pods and containers on a full disk: RESOURCE_EXHAUSTED, what runs goes on, exits are told"):
            pods_on_full_disk(w, keeper, before)
        with t.test("an exit on a full disk is not lost"):
            exit_survives_full_disk(w, keeper, before)
        with t.test("knarrd starts on a full disk"):
            start_on_full_disk(w, keeper, before)
        with t.test("a full log disk: the container goes on, whole lines, what was dropped is told"):
            log_on_full_disk(w, keeper, before)
        with t.test("the pod beside never noticed"):
            keeper.check()
            keeper.check_log()
            w.remove_pod(keeper.pod)
    t.end()


main()
