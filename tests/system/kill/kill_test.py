#!/usr/bin/env python3
"""kill -9 of knarrd, at every step and at random: what ran goes on, what was half made is gone, every name is free."""
import http.server
import os
import random
import re
import signal
import threading
import time

from world import HERE, Keeper, Rpc, Tap, World, alive, images, kubelet_clears_pod_cgroup, until

# Where knarrd is killed, and the call during which that happens.
POINTS = {
    "RunPodSandbox": ["keep_steps.record", "keep_steps.folder", "run_steps.files", "run_steps.monitor", "run_steps.shm",
                      "run_steps.cgroup", "run_steps.born", "run_steps.netns", "run_steps.network", "network.add",
                      "network.added", "run_steps.watch", "run_steps.containers"],
    "CreateContainer": ["make_steps.record", "make_steps.snapshot", "make_steps.bundle", "make_steps.cgroup"],
    "StartContainer": ["start.ask", "start.answered", "start.saved"],
    "StopContainer": ["stop.signal", "stop.kill", "stop.wait"],
    "RemoveContainer": ["make_steps.undo cgroup", "make_steps.undo bundle", "make_steps.undo snapshot",
                        "make_steps.undo record"],
    "StopPodSandbox": ["run_steps.undo containers", "run_steps.undo watch", "run_steps.undo network", "network.deleted",
                       "run_steps.undo netns", "run_steps.undo born", "run_steps.undo cgroup", "run_steps.undo shm", "run_steps.undo monitor",
                       "run_steps.undo files"],
    "RemovePodSandbox": ["keep_steps.undo folder", "keep_steps.undo record"],
}
CALLS = list(POINTS)
PULL_POINTS = ["pull.resolve", "pull.blob", "pull.layer", "pull.image", "pull.row"]


class Life:
    """A pod's life call by call; the calls after a crash are kubelet's: the same wish under the same names."""

    def __init__(self, w, name):
        self.w, self.name, self.pod, self.container = w, name, None, None

    def call(self, method):
        w, c = self.w, self.w.cri
        if method == "RunPodSandbox":
            self.pod = w.run_pod(self.name)
        elif method == "CreateContainer":
            self.container = w.create(self.pod, self.name, "c", "/bin/sh", "-c", "sleep 1000")
        elif method == "StartContainer":
            c.StartContainer(container_id=self.container)
        elif method == "StopContainer":
            c.StopContainer(container_id=self.container, timeout="0" if self.quick else "1")
        elif method == "RemoveContainer":
            c.RemoveContainer(container_id=self.container)
        elif method == "StopPodSandbox":
            c.StopPodSandbox(pod_sandbox_id=self.pod)
        else:
            c.RemovePodSandbox(pod_sandbox_id=self.pod)
    quick = True

    def go(self, since="RunPodSandbox"):
        """The calls from `since` on; the one that fails because knarrd is gone is the answer."""
        for method in CALLS[CALLS.index(since):]:
            try:
                self.call(method)
            except Rpc as e:
                if e.code != "Unavailable":
                    raise
                return method
        return None


def after_crash(w, life, died_in):
    """What is listed after the start is whole, and what was not made is not there."""
    pods, containers = w.pods(), w.containers()
    if died_in == "RunPodSandbox" and len(pods) != 1:
        raise AssertionError(f"a half made pod is listed: {pods}")
    if died_in == "CreateContainer" and len(containers) != 1:
        raise AssertionError(f"a half made container is listed: {containers}")
    if died_in not in ("RunPodSandbox", "RemovePodSandbox") and life.pod not in pods:
        raise AssertionError("the pod was there before and is not listed")
    if died_in == "StartContainer":
        state = containers[life.container]["state"]
        if state == "CONTAINER_RUNNING":
            return "StopContainer"
        if state != "CONTAINER_CREATED":
            raise AssertionError(f"after a start that was killed the container is {state}")
    return died_in


def kill_at(w, keeper, before, point, wanted_in):
    life = Life(w, point.replace(".", "-").replace("_", "-").replace(" ", "-"))
    life.quick = point != "stop.signal"
    w.restart(fault=f"{point}:kill")
    died_in = life.go()
    if died_in != wanted_in:
        raise AssertionError(f"knarrd should have died in {wanted_in}, it did in {died_in}")
    w.died()
    w.restart()
    keeper.check()
    if died_in == "RunPodSandbox":
        w.same_as(before)  # undone by the start alone
    left = life.go(since=after_crash(w, life, died_in))
    if left:
        raise AssertionError(f"{left} is not answered after the restart")
    kubelet_clears_pod_cgroup(w, life.name)
    w.same_as(before)


def kill_in_recovery(w, keeper, before, point, at):
    life = Life(w, "twice")
    w.restart(fault=f"{point}:kill")
    died_in = life.go()
    w.died()
    w.kill()
    w.start(wait=False, fault=f"{at}:kill")
    w.died()
    w.restart()
    keeper.check()
    left = life.go(since=after_crash(w, life, died_in))
    if left:
        raise AssertionError(f"{left} is not answered after the restart")
    kubelet_clears_pod_cgroup(w, life.name)
    w.same_as(before)


def every_step_is_there():
    """POINTS has every step and every undo of the tables in the source."""
    wanted = set()
    for file in ("pod_steps.c", "container_steps.c"):
        source = (HERE.parents[2] / "src/pod" / file).read_text()
        for table, body in re.findall(r"struct step (\w+)\[\] = \{(.*?)\n\};", source, re.S):
            for step, undo in re.findall(r'\{ "(\w+)", \w+, (\w+) \}', body):
                wanted |= {f"{table}.{step}"} | ({f"{table}.undo {step}"} if undo != "NULL" else set())
    missing = wanted - {point for points in POINTS.values() for point in points}
    if missing or len(wanted) < 20:
        raise AssertionError(f"no test kills at {sorted(missing)}")


def monitor_hangs_in_birth(w, keeper, before):
    """knarrd is killed before it has recorded who knarr-pod is, and that one does not answer."""
    w.restart(fault="run_steps.netns:stop")
    call = w.cri.later("RunPodSandbox", config=w.pod_config("birth"))
    w.wait_stopped()
    old = {int(line.split()[1]) for line in before if line.startswith("knarr-pod")}
    new = set(w.monitors()) - old
    if len(new) != 1:
        raise AssertionError(f"{new}")
    os.kill(new.pop(), signal.SIGSTOP)
    w.restart()
    quietly(call.result)
    keeper.check()
    kubelet_clears_pod_cgroup(w, "birth")
    w.same_as(before)


class StallingRegistry:
    """Serves one image, but of its large layer only half; then it is silent."""

    def __init__(self, image):
        self.image, self.stall, self.reached, self.go = image, True, threading.Event(), threading.Event()
        registry = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                registry.answer(self)
            do_HEAD = do_GET

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        kind, body = "application/octet-stream", self.image.blobs.get(request.path.rpartition("/")[2], b"{}")
        if "/manifests/" in request.path:
            kind, body = images.OCI["manifest"], self.image.manifest
        request.send_response(200)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if request.command == "HEAD":
            return
        if self.stall and len(body) > 2 << 20:
            request.wfile.write(body[:len(body) // 2])
            request.wfile.flush()
            self.reached.set()
            self.go.wait(30)
            request.close_connection = True
        else:
            request.wfile.write(body)


def pull_from_silence(w, keeper, before):
    """A registry that stalls in the middle of a layer: a cancelled pull ends its helpers, and so does a kill."""
    image = images.Image([images.busybox_layer(), images.layer([("noise", random.Random(3).randbytes(3 << 20))])], {})
    silent = StallingRegistry(image)
    hosts = w.dir / "hosts.d" / silent.address
    hosts.mkdir()
    hosts.joinpath("hosts.toml").write_text(f'server = "http://{silent.address}"\n')
    reference = {"image": f"{silent.address}/t/silent:1"}
    for how in ("cancel", "kill"):
        silent.reached.clear()
        pull = w.cri.later("PullImage", image=reference)
        if not silent.reached.wait(20):
            raise AssertionError(f"the layer is not asked for\n{w.log_tail()}")
        helpers = until("knarr-unpack is there", 5, lambda: (lambda c: c if len(c) > 1 else None)(w.children()))
        if how == "cancel":
            pull.cancel()
        else:
            w.kill()
        quietly(pull.result)
        until("knarr-pull and knarr-unpack end", 5, lambda helpers=helpers: not any(alive(p) for p in helpers))
    silent.stall = False
    silent.go.set()
    w.restart()
    keeper.check()
    w.cri.PullImage(image=reference)
    w.cri.RemoveImage(image=reference)
    silent.server.shutdown()
    w.same_as(before)


def kill_in_pull(w, keeper, before, point):
    image = w.push("pulled", [("unique", point.encode())])
    w.restart(fault=f"{point}:stop")
    pull = w.cri.later("PullImage", image={"image": image})
    w.wait_stopped()
    helpers = w.children()
    if not helpers:
        raise AssertionError("knarrd has no children in the middle of a pull")
    w.kill()
    try:
        pull.result()
        raise AssertionError("the pull was answered")
    except Rpc:
        pass
    until("knarr-pull and knarr-unpack end with knarrd", 5, lambda: not any(alive(p) for p in helpers))
    w.restart()
    keeper.check()
    if any(image in i["repoTags"] for i in w.cri.ListImages()["images"]):
        raise AssertionError("a half pulled image is listed")
    w.cri.PullImage(image={"image": image})
    w.cri.RemoveImage(image={"image": image})
    w.same_as(before)


def kill_at_random(w, keeper, before, rounds):
    """Four pods' lives at once, knarrd killed at any moment of them; then kubelet cleans up what it is shown."""
    for n in range(rounds):
        w.restart()
        lives = [Life(w, f"r{n}-{i}") for i in range(4)]
        threads = [threading.Thread(target=quietly, args=(life.go,)) for life in lives]
        for t in threads:
            t.start()
        time.sleep(random.uniform(0.01, 0.5))
        w.kill()
        for t in threads:
            t.join()
        w.restart()
        keeper.check()
        for life in lives:
            again = [p for p in w.pods().values() if p["metadata"]["name"] == life.name]
            for p in again:
                w.remove_pod(p["id"])
            left = Life(w, life.name).go()  # the same names again
            if left:
                raise AssertionError(f"{left} is not answered")
            kubelet_clears_pod_cgroup(w, life.name)
        w.same_as(before)


def quietly(run):
    try:
        run()
    except Rpc:
        pass


def exits_meanwhile(w):
    pod = w.run_pod("meanwhile", net="NODE")
    k = w.start_container(pod, "meanwhile", "seven", "/bin/sh", "-c", "usleep 300000; exit 7", net="NODE")
    s = w.start_container(pod, "meanwhile", "killed", "sleep", "1000", net="NODE")
    pid = w.pid(s)
    w.kill()
    time.sleep(0.3)
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.3)
    back = time.time_ns()
    w.restart()
    for container, code, reason in ((k, 7, "Error"), (s, 137, "Error")):
        st = w.status(container)
        took = int(st["finishedAt"]) - int(st["startedAt"])
        if (st["state"], st["exitCode"], st["reason"]) != ("CONTAINER_EXITED", code, reason):
            raise AssertionError(f"{st}")
        if not 250e6 < took < 900e6 or int(st["finishedAt"]) > back:
            raise AssertionError(f"it took {took} ns, finished at {st['finishedAt']}, knarrd was back at {back}")
    w.remove_pod(pod)
    kubelet_clears_pod_cgroup(w, "meanwhile")


def lists_are_whole(w, kills):
    """Ten kills while kubelet lists: every answer has all, or is UNAVAILABLE."""
    pods = [w.run_pod(f"l{i}", net="NODE") for i in range(5)]
    containers = [w.start_container(p, f"l{i}", "c", "sleep", "1000", net="NODE") for i, p in enumerate(pods)]
    wanted_pods, wanted = set(w.pods()), set(w.containers())
    ready = {i for i, p in w.pods().items() if p["state"] == "SANDBOX_READY"}
    wrong, count, end = [], [0], threading.Event()

    def hammer(look):
        while not end.is_set():
            try:
                look()
                count[0] += 1
            except Rpc as e:
                if e.code != "Unavailable":
                    wrong.append(str(e))

    def look_pods():
        got = w.pods()
        if set(got) != wanted_pods or {i for i, p in got.items() if p["state"] == "SANDBOX_READY"} != ready:
            wrong.append(f"pods {got}")

    def look_containers():
        got = w.containers()
        if set(got) != wanted or any(k["state"] != "CONTAINER_RUNNING" for k in got.values()):
            wrong.append(f"containers {got}")

    def look_status():
        s = w.cri.PodSandboxStatus(pod_sandbox_id=pods[0])["status"]
        if s["state"] != "SANDBOX_READY":
            wrong.append(f"status {s}")

    threads = [threading.Thread(target=hammer, args=(look,)) for look in (look_pods, look_containers, look_status)]
    for t in threads:
        t.start()
    for _ in range(kills):
        time.sleep(random.uniform(0.0, 0.25))
        w.kill()
        w.start()
    time.sleep(0.3)
    end.set()
    for t in threads:
        t.join()
    if wrong or count[0] < kills:
        raise AssertionError(f"{count[0]} answers; wrong: {wrong[:3]}")
    for i, (p, k) in enumerate(zip(pods, containers)):
        if w.status(k)["metadata"]["attempt"] != 0:
            raise AssertionError("a container was made anew")
        w.remove_pod(p)
        kubelet_clears_pod_cgroup(w, f"l{i}")


def main():
    t = Tap()
    with World() as w:
        keeper = Keeper(w)
        before = w.snapshot()
        with t.test("the look at the machine sees what a pod holds"):
            for part in ("cgroup", "knarr-pod", "mount", "netns/", "root/pods/", "root/containers/", "run/pods/", "address", "link"):
                if not any(line.startswith(part) for line in before):
                    raise AssertionError(f"no {part} in {before}")
        with t.test("every step of every table is among the points"):
            every_step_is_there()
        for call, points in POINTS.items():
            for point in points:
                with t.test(f"killed in {call} at {point}: undone or whole, and the same names can be used at once"):
                    kill_at(w, keeper, before, point, call)
        for point, at in (("run_steps.containers", "run_steps.undo network"), ("run_steps.containers", "run_steps.undo monitor"),
                          ("run_steps.watch", "network.deleted"), ("run_steps.network", "run_steps.undo files"),
                          ("make_steps.cgroup", "make_steps.undo snapshot"), ("run_steps.watch", "keep_steps.undo record")):
            with t.test(f"killed at {point}, then in the recovery at {at}: the next start undoes it"):
                kill_in_recovery(w, keeper, before, point, at)
        for point in PULL_POINTS:
            with t.test(f"killed in PullImage at {point}: helpers end, no half image, pulled again whole"):
                kill_in_pull(w, keeper, before, point)
        with t.test("a knarr-pod that nobody recorded and that does not answer is found and ended"):
            monitor_hangs_in_birth(w, keeper, before)
        with t.test("killed, or cancelled, in a layer that stalls: knarr-pull and knarr-unpack end, the next pull is whole"):
            pull_from_silence(w, keeper, before)
        with t.test("killed at random while four pods live: nothing is left, every name is free"):
            kill_at_random(w, keeper, before, 5)
        w.restart()
        with t.test("exits while no knarrd runs are reported with code, reason and times"):
            exits_meanwhile(w)
            w.same_as(before)
        with t.test("killed ten times while kubelet lists: every answer is whole or UNAVAILABLE"):
            lists_are_whole(w, 10)
            w.same_as(before)
        with t.test("what ran through all of it never noticed, and its log has no gap"):
            keeper.check()
            keeper.check_log()
        with t.test("at the end nothing is left"):
            w.remove_pod(keeper.pod)
            kubelet_clears_pod_cgroup(w, "keeper")
            if left := [line for line in w.snapshot() if not line.startswith(("root/layers", "root/content"))
                        and line not in [f"cgroup {c}" for c in w.cgroups() if c.name in (w.cgroup, f"{w.cgroup}-pods")]]:
                raise AssertionError(f"left: {left}")
    t.end()


main()
