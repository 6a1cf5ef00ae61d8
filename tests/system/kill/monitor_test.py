#!/usr/bin/env python3
"""knarr-pod killed, stopped, killed together with knarrd, and the whole machine started anew."""
import contextlib
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import world  # noqa: F401  (it finds what lies in tests/lib)
import handler
from world import Keeper, Rpc, Tap, World, alive, kubelet_clears_pod_cgroup, until

ESCAPED = "sleep 1000 & setsid sleep 1000 & exec sleep 1000"  # a child that nothing but its cgroup holds


class Victim:
    """A pod with a network, a container of its own PID namespace and one in the host's."""

    def __init__(self, w, name="victim"):
        self.w, self.name = w, name
        self.pod = w.run_pod(name)
        self.own = w.start_container(self.pod, name, "own", "/bin/sh", "-c", ESCAPED)
        self.host = w.start_container(self.pod, name, "host", "/bin/sh", "-c", ESCAPED, pid="NODE")
        until("each container has three processes", 20, lambda: len(self.processes()) >= 6)
        self.pids = self.processes()
        self.monitor = next(m for m in w.monitors() if self.pod in cmdline(m))

    def processes(self):
        found = set()
        for c in self.w.cgroups():
            if c.name in (self.own, self.host):
                found |= {int(p) for p in c.joinpath("cgroup.procs").read_text().split()}
        return found

    def check_dead(self, reason=("MonitorDied",)):
        """What CRI says once knarr-pod is dead."""
        w = self.w
        until("the sandbox is not ready", 15, lambda: w.pods()[self.pod]["state"] == "SANDBOX_NOTREADY")
        for k in (self.own, self.host):
            s = w.exited(k)
            if s["exitCode"] != 137 or s["reason"] not in reason or not s["message"] or not int(s["finishedAt"]):
                raise AssertionError(f"{s}")
        until("all processes are gone", 5, lambda: not any(alive(p) for p in self.pids))

    def clear(self, before):
        addresses = [line for line in self.w.snapshot() if line.startswith("address")]
        if len(addresses) != 2:
            raise AssertionError(f"CNI DEL must wait for the Stop: {addresses}")
        self.w.remove_pod(self.pod)
        kubelet_clears_pod_cgroup(self.w, self.name)
        self.w.same_as(before)


def cmdline(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    return ""


def killed(w, keeper, before):
    v = Victim(w)
    os.kill(v.monitor, signal.SIGKILL)
    v.check_dead()
    keeper.check()
    w.cri.StopContainer(container_id=v.own)  # idempotent, as kubelet does it
    v.clear(before)


def killed_during_exec(w, keeper, before):
    v = Victim(w)
    call = w.cri.later("ExecSync", container_id=v.own, cmd=["sleep", "100"], timeout="50")
    time.sleep(0.3)
    os.kill(v.monitor, signal.SIGKILL)
    began = time.monotonic()
    try:
        call.result(20)
        raise AssertionError("the exec was answered")
    except Rpc as e:
        if e.code == "DeadlineExceeded" or time.monotonic() - began > 3:
            raise AssertionError(f"after {time.monotonic() - began} s: {e}") from None
    v.check_dead()
    try:
        w.cri.ExecSync(container_id=v.own, cmd=["true"], timeout="5")
        raise AssertionError("exec in a dead container")
    except Rpc:
        pass
    keeper.check()
    v.clear(before)


def both_killed(w, keeper, before):
    v = Victim(w)
    w.kill()
    os.kill(v.monitor, signal.SIGKILL)
    w.restart()
    v.check_dead()
    keeper.check()
    v.clear(before)


def stopped(w, keeper, before):
    """One that does not answer is killed by a Stop; nobody else waits for it."""
    v = Victim(w)

    def others():
        once = time.monotonic()
        w.pods()
        w.cri.ExecSync(container_id=keeper.container, cmd=["true"], timeout="5")
        return time.monotonic() - once

    usual = max(others() for _ in range(3))
    os.kill(v.monitor, signal.SIGSTOP)
    began = time.monotonic()
    stop = w.cri.later("StopContainer", container_id=v.own, timeout="0")
    while not stop.done():
        if others() > 1 + 5 * usual:
            raise AssertionError("others wait for the knarr-pod that does not answer")
    stop.result()
    if time.monotonic() - began > 5 + 5 * usual:
        raise AssertionError(f"StopContainer took {time.monotonic() - began:.1f} s")
    v.check_dead()
    keeper.check()
    v.clear(before)


def stopped_pod_stop(w, keeper, before):
    v = Victim(w)
    os.kill(v.monitor, signal.SIGSTOP)
    began = time.monotonic()
    w.cri.StopPodSandbox(pod_sandbox_id=v.pod)
    if time.monotonic() - began > 6:
        raise AssertionError(f"StopPodSandbox took {time.monotonic() - began:.1f} s")
    for k in (v.own, v.host):
        if w.status(k)["state"] != "CONTAINER_EXITED" or w.status(k)["exitCode"] != 137:
            raise AssertionError(f"{w.status(k)}")
    keeper.check()
    w.remove_pod(v.pod)
    kubelet_clears_pod_cgroup(w, v.name)
    w.same_as(before)


def stopped_restart(w, keeper, before):
    """knarrd starts beside a knarr-pod that does not answer."""
    v = Victim(w)
    w.kill()
    os.kill(v.monitor, signal.SIGSTOP)
    began = time.monotonic()
    w.restart()
    if time.monotonic() - began > 5:
        raise AssertionError(f"the recovery took {time.monotonic() - began:.1f} s")
    v.check_dead()
    keeper.check()
    v.clear(before)


def killed_meanwhile_starts(w, before):
    """knarr-pod dies while calls are under way: each is answered, and all can be removed."""
    for n in range(6):
        name = f"during{n}"
        pod = w.run_pod(name)
        ids = [w.create(pod, name, f"c{i}", "sleep", "1000") for i in range(4)]
        monitor = next(m for m in w.monitors() if pod in cmdline(m))
        calls = [w.cri.later("StartContainer", container_id=k) for k in ids]
        time.sleep(0.003 * n)
        os.kill(monitor, signal.SIGKILL)
        for c in calls:
            with contextlib.suppress(Rpc):
                c.result(15)
        until("the sandbox is not ready", 15, lambda pod=pod: w.pods()[pod]["state"] == "SANDBOX_NOTREADY")
        for k in ids:
            s = w.status(k)
            if s["state"] == "CONTAINER_RUNNING" and w.exited(k)["exitCode"] != 137:
                raise AssertionError(f"{s}")
        w.remove_pod(pod)
        kubelet_clears_pod_cgroup(w, name)
        w.same_as(before)


def killed_during_run(w, before):
    """knarr-pod dies before its pod is made."""
    w.restart(fault="run_steps.network:stop")
    call = w.cri.later("RunPodSandbox", config=w.pod_config("early"))
    w.wait_stopped()
    pod = max((w.root / "pods").iterdir(), key=lambda f: f.stat().st_ctime_ns).name
    os.kill(next(m for m in w.monitors() if pod in cmdline(m)), signal.SIGKILL)
    os.kill(w.process.pid, signal.SIGCONT)
    try:
        got = call.result(30)["podSandboxId"]
        until("the sandbox is not ready", 5, lambda: w.pods()[got]["state"] == "SANDBOX_NOTREADY")
        w.remove_pod(got)
    except Rpc:
        pass
    kubelet_clears_pod_cgroup(w, "early")
    w.restart()
    w.same_as(before)


def reboot(w):
    """What a reboot leaves: the disk, with another boot id in the catalog."""
    w.kill()
    for m in w.monitors():
        os.kill(m, signal.SIGKILL)
    until("every monitor is gone", 5, lambda: not w.monitors())
    for _ in range(100):
        for c in w.cgroups():
            with contextlib.suppress(OSError):
                for p in c.joinpath("cgroup.procs").read_text().split():
                    os.kill(int(p), signal.SIGKILL)
            with contextlib.suppress(OSError):
                c.rmdir()
        if not w.cgroups():
            break
        time.sleep(0.05)
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
        if line.split()[4].startswith(str(w.dir)):
            subprocess.run(["umount", "-l", line.split()[4]], check=True)
    shutil.rmtree(w.run)  # a tmpfs
    shutil.rmtree(w.dir / "netns")
    subprocess.run(["ip", "link", "del", w.bridge], check=False)
    with contextlib.closing(sqlite3.connect(w.root / "catalog.db")) as db:
        tables = [t for (t,) in db.execute("select name from sqlite_master where type='table'")]
        done = 0
        for table in tables:
            columns = [c[1] for c in db.execute(f"pragma table_info({table})")]
            if "body" in columns and "id" in columns:
                done += db.execute(f"update {table} set body=? where id='boot_id'",
                                   (b'{"version":1,"boot_id":"another"}',)).rowcount
        db.commit()
    if done != 1:
        raise AssertionError(f"the boot id is in {done} rows of {tables}")


def waiters(w):
    """The commands that wait to remove what was run with -d --rm."""
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = p.joinpath("cmdline").read_bytes().split(b"\0")
            if b"--after-exit" in words and str(w.user_sock).encode() in words:
                yield int(p.name)


def rebooted(w):
    ended = w.run_pod("ended")
    seven = w.start_container(ended, "ended", "seven", "/bin/sh", "-c", "exit 7")
    was = w.exited(seven)
    unseen = w.start_container(ended, "ended", "unseen", "/bin/sh", "-c", "usleep 200000; exit 8")
    v = Victim(w)
    created = w.create(v.pod, "victim", "created", "sleep", "1")
    stopped_pod = w.run_pod("stopped")
    w.cri.StopPodSandbox(pod_sandbox_id=stopped_pod)
    for name, *more in (("goes", "--rm"), ("stays",)):
        w.cli("run", "-d", "--name", name, *more, w.image, "sleep", "1000")
    w.kill()
    for waiter in waiters(w):
        os.kill(waiter, signal.SIGKILL)
    time.sleep(0.6)  # unseen ends while no knarrd runs, and then the machine goes down
    reboot(w)
    began = time.monotonic()
    w.start()
    w.cri.wait_ready()
    if time.monotonic() - began > 5:
        raise AssertionError(f"the first list took {time.monotonic() - began:.1f} s")
    if states := {p["state"] for p in w.pods().values()} - {"SANDBOX_NOTREADY"}:
        raise AssertionError(f"pods are {states}")
    wanted = {seven: (7, "Error"), unseen: (8, "Error"), v.own: (255, "Unknown"), v.host: (255, "Unknown"),
              created: (255, "Unknown")}
    for k, (code, reason) in wanted.items():
        s = w.status(k)
        if (s["state"], s["exitCode"], s["reason"]) != ("CONTAINER_EXITED", code, reason):
            raise AssertionError(f"{s['metadata']}: {s['state']} {s['exitCode']} {s['reason']}, wanted {code} {reason}")
    if (w.status(seven)["finishedAt"], w.status(seven)["startedAt"]) != (was["finishedAt"], was["startedAt"]):
        raise AssertionError("the times of an earlier exit changed")
    until("what was run with --rm is removed", 10, lambda: "goes" not in w.cli("ps", "-a").stdout)
    if "exited (255)" not in (said := w.cli("ps", "-a").stdout):
        raise AssertionError(f"what was run without --rm is not there: {said}")
    w.cli("rm", "stays")
    again = w.run_pod("victim2")  # a new pod beside the old ones
    w.start_container(again, "victim2", "c", "sleep", "1000")
    for p in [*w.pods()]:
        w.remove_pod(p)
    if left := [line for line in w.snapshot() if line.startswith(("address", "netns", "root/pods", "root/containers",
                                                                  "run/pods", "knarr-pod"))]:
        raise AssertionError(f"left: {left}")


def main():
    t = Tap()
    program, _ = handler.take(sys.argv[1:])
    if handler.missing(program):
        t.skip("knarr-pod killed", handler.missing(program))
        t.end()
    with World() as w:
        keeper = Keeper(w)
        before = w.snapshot()
        with t.test("knarr-pod killed: containers killed by cgroup, 137 with a reason, NOTREADY, DEL at Stop"):
            killed(w, keeper, before)
        with t.test("knarr-pod killed during an exec: the exec is answered at once"):
            killed_during_exec(w, keeper, before)
        with t.test("knarrd and knarr-pod killed: the next start kills by cgroup and says the same"):
            both_killed(w, keeper, before)
        with t.test("a knarr-pod that does not answer is killed by StopContainer, others do not wait"):
            stopped(w, keeper, before)
        with t.test("a knarr-pod that does not answer is killed by StopPodSandbox"):
            stopped_pod_stop(w, keeper, before)
        with t.test("knarrd starts beside a knarr-pod that does not answer"):
            stopped_restart(w, keeper, before)
        with t.test("knarr-pod killed while containers start: every call is answered"):
            killed_meanwhile_starts(w, before)
        with t.test("knarr-pod killed before its pod is made: RunPodSandbox is answered, nothing is left"):
            killed_during_run(w, before)
        with t.test("the pod beside never noticed"):
            keeper.check()
            keeper.check_log()
            w.remove_pod(keeper.pod)
        with t.test("after a reboot: all stopped, earlier exits as they were, 255 Unknown for the rest; what was run with --rm goes"):
            rebooted(w)
    t.end()


main()
