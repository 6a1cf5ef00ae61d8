#!/usr/bin/env python3
"""Runtime handlers by name: one that works beside knarr's own, one that is missing, one that is broken and then repaired."""
import json
import os
import pathlib
import tempfile

from world import Rpc, Tap, World

import handler  # in tests/lib, which world has found

RUNC, _ = handler.take(["--handler=runc"])


def refused_by(w, name, said):
    try:
        w.cri.RunPodSandbox(config=w.pod_config(f"of-{name}"), runtime_handler=name)
    except Rpc as e:
        if e.code != "Unavailable" or f"runtime handler {name}" not in e.message or said not in e.message:
            raise AssertionError(f"{e}") from e
    else:
        raise AssertionError("the pod was made")


def condition(w):
    return next(c for c in w.cri.Status()["status"]["conditions"] if c["type"] == "RuntimeHandlersReady")


def life(w, name):
    before = w.snapshot()
    pod = w.cri.RunPodSandbox(config=w.pod_config(f"of-{name}"), runtime_handler=name)["podSandboxId"]
    k = w.start_container(pod, f"of-{name}", "c", "/bin/sh", "-c", "trap 'echo told; exit 7' TERM; echo up; while :; do sleep 0.1; done")
    said = w.cri.ExecSync(container_id=k, cmd=["/bin/sh", "-c", "cat /proc/1/cmdline"])
    if not said.get("stdout"):
        raise AssertionError(f"{said}")
    if w.pods()[pod]["runtimeHandler"] != name:
        raise AssertionError(f"{w.pods()[pod]}")
    w.cri.StopContainer(container_id=k, timeout="20")
    if w.exited(k)["exitCode"] != 7:
        raise AssertionError(f"{w.exited(k)}")
    w.remove_pod(pod)
    # The pod's cgroup is kubelet's.
    left = {line for line in set(w.snapshot()) - set(before) if not line.startswith("cgroup")}
    if left:
        raise AssertionError(f"left: {left}")


def main():
    t = Tap()
    with tempfile.TemporaryDirectory(prefix="knarr-test-") as folder:
        program = pathlib.Path(folder) / "broken"
        program.write_text("#!/bin/sh\nexit 3\n")
        program.chmod(0o755)
        config = f"handlers:\n  missing: {{ path: {folder}/none }}\n  broken: {{ path: {program} }}\n"
        if RUNC:
            config += f"  plain: {{ path: {RUNC} }}\n  other-root: {{ path: {RUNC}, root: {folder}/runtime-root, args: [--debug] }}\n"
        with World(config) as w:
            with t.test("a handler that is missing or broken is named by Status, and by RunPodSandbox, and harms no other"):
                c = condition(w)
                if c.get("status") or "missing" not in c["message"]:
                    raise AssertionError(f"{c}")
                refused_by(w, "missing", "none")
                refused_by(w, "broken", "exits with 3")
                info = json.loads(w.cri.Status(verbose=True)["info"]["info"])
                if "broken: " not in info["handler broken"] or info["defaultHandler"] != "native":
                    raise AssertionError(f"{info}")
                w.remove_pod(w.run_pod("ours"))
            if not RUNC:
                t.skip("handlers that work", "runc is not installed")
                t.end()
            with t.test("a pod of a handler lives and ends, and leaves nothing"):
                life(w, "plain")
            with t.test("a root of the user's is used, and cleared"):
                root = pathlib.Path(folder) / "runtime-root"
                pod = w.cri.RunPodSandbox(config=w.pod_config("rooted"), runtime_handler="other-root")["podSandboxId"]
                w.start_container(pod, "rooted", "c", "/bin/sleep", "1000")
                if not any(root.joinpath(pod).iterdir()):
                    raise AssertionError("nothing is in it")
                w.remove_pod(pod)
                if root.joinpath(pod).exists():
                    raise AssertionError("it is left")
            with t.test("a program that is replaced is asked anew"):
                new = pathlib.Path(folder) / "new"
                new.symlink_to(RUNC)
                os.replace(new, program)
                life(w, "broken")
    t.end()


main()
