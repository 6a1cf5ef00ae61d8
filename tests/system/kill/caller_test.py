#!/usr/bin/env python3
"""Callers that go, plugins that misbehave: RunPodSandbox and CreateContainer outlive their caller, and whatever a plugin
does, the answer is clear and nothing is left."""
import json
import os
import signal
import subprocess
import sys
import time

from world import Keeper, Rpc, Tap, World, alive, kubelet_clears_pod_cgroup, refused, until

# The last plugin of the chain; the file `mode` says what it does on ADD and on DEL.
FAKE = """#!/usr/bin/env python3
import json, os, signal, subprocess, sys, time
here = os.path.dirname(os.path.realpath(__file__))
command = os.environ["CNI_COMMAND"]
mode, _, value = json.load(open(here + "/mode")).get(command, "ok").partition(":")
conf = json.load(sys.stdin)
with open(here + "/calls", "a") as f:
    f.write(command + " " + os.environ["CNI_CONTAINERID"] + " " + str(os.getpid()) + "\\n")
if mode == "sleep":
    time.sleep(float(value))
elif mode == "hang":
    child = subprocess.Popen(["sleep", "1000"])
    with open(here + "/child", "w") as f:
        f.write(str(child.pid))
    child.wait()
elif mode == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
elif mode == "garbage":
    print('{"cniVersion": "1.0.0", "ips": [{"address": 17}', "\\x00\\x1b[31m")
    sys.exit(0)
elif mode == "flood":
    sys.stdout.write("x" * (8 << 20))
    sys.exit(0)
elif mode == "error":
    print(json.dumps({"cniVersion": "1.0.0", "code": 999, "msg": "the fake says no", "details": "as told"}))
    sys.exit(1)
elif mode == "mute":
    sys.exit(3)
elif mode == "address":
    print(json.dumps({"cniVersion": "1.0.0", "ips": [{"address": "not an address"}]}))
    sys.exit(0)
if command == "ADD":
    print(json.dumps(conf["prevResult"]))
"""
SETTINGS = """limits:
  collect: 2s
  create: 20s
"""


def python_start():
    """What the fake, a Python program, needs to begin: a tenth of a second, or a whole one on an emulated node."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import json, subprocess"], check=True)
    return time.monotonic() - began


class Callers(World):
    def __init__(self):
        super().__init__(SETTINGS)
        self.plugin_timeout = 3 + round(10 * python_start())
        self.plugins = self.dir / "plugins"
        self.plugins.mkdir()
        self.bin_dirs.append(self.plugins)
        fake = self.plugins / "fake"
        fake.write_text(FAKE)
        fake.chmod(0o755)
        self.mode()

    def write_config(self):
        super().write_config()
        text = self.config.read_text()
        self.config.write_text(text.replace("cni:\n", f"cni:\n  timeout: {self.plugin_timeout}s\n"))
        conflist = self.dir / "cni/10-test.conflist"
        document = json.loads(conflist.read_text())
        document["plugins"].append({"type": "fake"})
        conflist.write_text(json.dumps(document))

    def mode(self, **modes):
        (self.plugins / "mode").write_text(json.dumps(modes))
        (self.plugins / "calls").write_text("")
        (self.plugins / "child").unlink(missing_ok=True)

    def calls(self, command):
        return [line.split()[1:] for line in (self.plugins / "calls").read_text().splitlines() if line.startswith(command)]

    def added(self):
        """The pod and the pid of the plugin that is at work."""
        pod, pid = until("the plugin is called", 10, lambda: self.calls("ADD"))[-1]
        return pod, int(pid)

    def hang_child(self):
        def read():
            path = self.plugins / "child"
            return path.exists() and path.read_text()
        return int(until("the plugin hangs", 10, read))

    def unlisted(self, keeper):
        if set(self.pods()) != {keeper.pod}:
            raise AssertionError(f"what is not made is listed: {self.pods()}")


def ends(call, *codes, part=""):
    try:
        answer = call.result()
    except Rpc as e:
        if e.code not in codes or part not in e.message:
            raise AssertionError(f"wanted {codes} with \"{part}\", got {e}") from None
        return
    raise AssertionError(f"wanted {codes}, got {answer}")


def collected_by_retry(w, keeper, before):
    w.mode(ADD="sleep:1.5")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("retry"), seconds=0.4)
    made, _ = w.added()
    ends(first, "DeadlineExceeded")
    w.unlisted(keeper)
    w.cri.later("RunPodSandbox", config=w.pod_config("retry"), seconds=0.3)  # kubelet's impatience
    got = w.run_pod("retry")
    if got != made or len(w.calls("ADD")) != 1:
        raise AssertionError(f"{made} was made, {got} answered, ADD ran {len(w.calls('ADD'))} times")
    if refused("AlreadyExists", got, lambda: w.run_pod("retry")) and got not in w.pods():
        raise AssertionError("the pod that was collected is not listed")
    w.mode()
    w.remove_pod(got)
    kubelet_clears_pod_cgroup(w, "retry")
    w.same_as(before)


def collected_later(w, keeper, before):
    """The caller comes back after the pod is ready, within limits.collect."""
    w.mode(ADD="sleep:0.5")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("later"))
    made, _ = w.added()
    first.cancel()
    ends(first, "Canceled")
    time.sleep(1.2)
    w.unlisted(keeper)
    if (got := w.run_pod("later")) != made:
        raise AssertionError(f"{made} was made, {got} answered")
    w.mode()
    w.remove_pod(got)
    kubelet_clears_pod_cgroup(w, "later")
    w.same_as(before)


def never_collected(w, keeper, before):
    w.mode(ADD="sleep:0.3")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("lonely"))
    made, _ = w.added()
    first.cancel()
    until("CNI DEL runs", 10, lambda: w.calls("DEL"))
    w.unlisted(keeper)
    kubelet_clears_pod_cgroup(w, "lonely")
    w.same_as(before)
    w.mode()
    if (got := w.run_pod("lonely")) == made:
        raise AssertionError("the pod that was undone is answered")
    w.remove_pod(got)
    kubelet_clears_pod_cgroup(w, "lonely")
    w.same_as(before)


def never_collected_over_restart(w, keeper, before):
    """A killed knarrd leaves a ready pod that nobody collected: the start undoes it."""
    w.mode(ADD="sleep:0.3")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("orphan"))
    w.added()
    first.cancel()
    time.sleep(0.8)
    w.restart()
    w.unlisted(keeper)
    kubelet_clears_pod_cgroup(w, "orphan")
    w.same_as(before)


def another_wish(w, keeper, before):
    w.mode(ADD="hang")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("wish"))
    made, _ = w.added()
    w.hang_child()
    w.mode()
    got = w.cri.RunPodSandbox(config=w.pod_config("wish", annotations={"another": "wish"}))["podSandboxId"]
    if got == made:
        raise AssertionError("the first wish's pod is answered to the second")
    ends(first, "Canceled", "Aborted", "Unavailable")
    w.remove_pod(got)
    kubelet_clears_pod_cgroup(w, "wish")
    w.same_as(before)


def stopped_meanwhile(w, keeper, before):
    w.mode(ADD="hang")
    first = w.cri.later("RunPodSandbox", config=w.pod_config("stopped"))
    made, pid = w.added()
    child = w.hang_child()
    began = time.monotonic()
    w.cri.StopPodSandbox(pod_sandbox_id=made)
    if time.monotonic() - began > w.plugin_timeout - 0.5:
        raise AssertionError(f"StopPodSandbox took {time.monotonic() - began:.1f} s")
    ends(first, "Canceled", "Aborted")
    if alive(pid) or alive(child):
        raise AssertionError("the plugin still runs")
    kubelet_clears_pod_cgroup(w, "stopped")
    w.same_as(before)


def killed_while_plugin_hangs(w, keeper, before):
    for command in ("ADD", "DEL"):
        w.mode(**{command: "hang"})
        if command == "DEL":
            pod = w.run_pod("hanging")
            call = w.cri.later("StopPodSandbox", pod_sandbox_id=pod)
        else:
            call = w.cri.later("RunPodSandbox", config=w.pod_config("hanging"))
            w.added()
        child = w.hang_child()
        pid = int(w.calls(command)[-1][1])
        w.kill()
        until("the plugin dies with knarrd", 3, lambda pid=pid: not alive(pid))
        w.mode()
        w.start()
        w.cri.wait_ready()
        if alive(child):
            raise AssertionError("what the plugin had started is still there after the start")
        ends(call, "Unavailable")
        if command == "DEL":
            w.remove_pod(pod)
        kubelet_clears_pod_cgroup(w, "hanging")
        w.same_as(before)


def container_of_gone_caller(w, keeper, before):
    """CreateContainer: cancelled at once, the retry gets the container; never collected, it is undone."""
    pod = w.run_pod("create")
    config = w.container_config("c", "sleep", "1000")
    for _ in range(10):
        call = w.cri.later("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=w.pod_config("create"))
        call.cancel()
        try:
            known = call.result()["containerId"]
        except Rpc as e:
            if e.code != "Canceled":
                raise
            known = None
        try:
            k = known or w.create(pod, "create", "c", "sleep", "1000")
        except Rpc as e:  # the answer was under way already when the caller cancelled: then it is listed
            if e.code != "AlreadyExists":
                raise
            k = next(i for i, c in w.containers().items() if c["podSandboxId"] == pod)
        w.cri.StartContainer(container_id=k)
        w.cri.RemoveContainer(container_id=k)
    call = w.cri.later("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=w.pod_config("create"), seconds=0.004)
    try:
        w.cri.RemoveContainer(container_id=call.result()["containerId"])
    except Rpc:
        pass

    def undone():
        for i, c in w.containers().items():
            if c["podSandboxId"] == pod:  # as above: answered in the very moment in which the deadline passed
                w.cri.RemoveContainer(container_id=i)
        return len(list((w.root / "containers").iterdir())) == 1

    until("nobody collected it, so it is undone", 10, undone)
    w.cri.StopPodSandbox(pod_sandbox_id=pod)
    refused("FailedPrecondition", pod, lambda: w.create(pod, "create", "d", "true"))
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "create")
    w.same_as(before)


def container_stopped_meanwhile(w, keeper, before):
    """StopPodSandbox ends a CreateContainer that is in the middle of its steps."""
    for point in ("make_steps.record", "make_steps.bundle", "make_steps.cgroup"):
        w.restart(fault=f"{point}:stop")
        pod = w.run_pod("between")
        create = w.cri.later("CreateContainer", pod_sandbox_id=pod, config=w.container_config("c", "sleep", "1000"),
                             sandbox_config=w.pod_config("between"))
        w.wait_stopped()
        stop = w.cri.later("StopPodSandbox", pod_sandbox_id=pod)
        time.sleep(0.1)
        os.kill(w.process.pid, signal.SIGCONT)
        stop.result()
        try:
            made = create.result()["containerId"]  # it was ready when the Stop was heard
            if made not in w.containers():
                raise AssertionError("the container that was answered is not listed")
        except Rpc as e:
            if e.code not in ("Canceled", "Aborted", "FailedPrecondition"):
                raise
        w.cri.RemovePodSandbox(pod_sandbox_id=pod)
        kubelet_clears_pod_cgroup(w, "between")
        w.same_as(before)


PLUGINS = {
    "hangs": ("hang", ("DeadlineExceeded", "Unknown", "Internal"), "fake"),
    "crashes": ("crash", ("Unknown", "Internal"), "SEGV"),
    "prints garbage": ("garbage", ("Unknown", "Internal"), "fake"),
    "prints 8 MiB": ("flood", ("Unknown", "Internal"), "fake"),
    "gives no address": ("address", ("Unknown", "Internal"), "fake"),
    "fails with an error": ("error", ("Unknown", "Internal"), "the fake says no: as told"),
    "fails without a word": ("mute", ("Unknown", "Internal"), "exit code 3"),
}


def bad_add(w, keeper, before, mode, codes, part):
    w.mode(ADD=mode)
    began = time.monotonic()
    ends(w.cri.later("RunPodSandbox", config=w.pod_config("bad")), *codes, part=part)
    if time.monotonic() - began > 2 * w.plugin_timeout:
        raise AssertionError(f"it took {time.monotonic() - began:.1f} s")
    if not w.calls("DEL"):
        raise AssertionError("DEL was not called")
    w.unlisted(keeper)
    kubelet_clears_pod_cgroup(w, "bad")
    w.same_as(before)


def bad_del(w, keeper, before, mode, codes, part):
    """The pod stays, NOTREADY, and so does its address, until a DEL succeeds."""
    w.mode()
    pod = w.run_pod("bad")
    w.start_container(pod, "bad", "c", "sleep", "1000")
    w.mode(DEL=mode)
    ends(w.cri.later("StopPodSandbox", pod_sandbox_id=pod), *codes, part=part)
    if w.pods()[pod]["state"] != "SANDBOX_NOTREADY":
        raise AssertionError(f"{w.pods()[pod]}")
    ends(w.cri.later("RemovePodSandbox", pod_sandbox_id=pod), *codes, part=part)
    if len([line for line in w.snapshot() if line.startswith("address")]) != 2:
        raise AssertionError("the address was given back though DEL failed")
    w.restart()
    if w.pods()[pod]["state"] != "SANDBOX_NOTREADY":
        raise AssertionError(f"after a restart: {w.pods()[pod]}")
    w.mode()
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "bad")
    w.same_as(before)


def main():
    t = Tap()
    with Callers() as w:
        keeper = Keeper(w)
        before = w.snapshot()
        for promise, test in (
                ("RunPodSandbox goes on when its caller's deadline passes; the same wish joins it", collected_by_retry),
                ("RunPodSandbox whose caller cancelled waits to be collected", collected_later),
                ("a pod that nobody collects is undone, DEL included", never_collected),
                ("a pod that nobody collected when knarrd was killed is undone by the start", never_collected_over_restart),
                ("another wish under the same name ends the first", another_wish),
                ("StopPodSandbox ends a RunPodSandbox under way, plugin and all", stopped_meanwhile),
                ("killed while a plugin hangs: the plugin and what it started end, then DEL runs", killed_while_plugin_hangs),
                ("CreateContainer goes on without its caller; what nobody collects is undone", container_of_gone_caller),
                ("StopPodSandbox ends a CreateContainer in the middle of its steps", container_stopped_meanwhile)):
            with t.test(promise):
                test(w, keeper, before)
            if "in the middle" in promise:
                w.restart()  # without the fault, whatever came of it
        for what, (mode, codes, part) in PLUGINS.items():
            with t.test(f"a CNI plugin that {what} on ADD: a clear error, DEL runs, nothing is left"):
                bad_add(w, keeper, before, mode, codes, part)
        for what in ("hangs", "crashes", "fails with an error"):
            with t.test(f"a CNI plugin that {what} on DEL: Stop says so and can be tried again, over a restart too"):
                bad_del(w, keeper, before, *PLUGINS[what])
        with t.test("the pod beside never noticed"):
            keeper.check()
            keeper.check_log()
            w.remove_pod(keeper.pod)
    t.end()


main()
