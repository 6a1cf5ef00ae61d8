#!/usr/bin/env python3
"""Kernel calls denied one at a time, to one program at a time. Each either works by its fallback or ends with an error that
names the call; nothing is left behind, and once the call works so does the next pod."""
import contextlib
import errno
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kill"))
from deny import Denials, text_at  # noqa: E402
from world import POD, Rpc, Tap, World, kubelet_clears_pod_cgroup, until  # noqa: E402

FSCONFIG_SET_FD = 5


def folders_as_fds(_pid, arguments):
    """Linux before 6.13: overlayfs takes no fds."""
    return arguments[1] == FSCONFIG_SET_FD


def folders_one_by_one(pid, arguments):
    """Linux before 6.7: no lowerdir+ either."""
    return arguments[1] == FSCONFIG_SET_FD or text_at(pid, arguments[2]) == "lowerdir+" if arguments[2] else False


def lower_folders(pid, arguments):
    """No context takes lower folders: what is left is mount(2)."""
    return arguments[1] == FSCONFIG_SET_FD or text_at(pid, arguments[2]).startswith("lowerdir") if arguments[2] else False


def of_overlay(pid, arguments):
    return text_at(pid, arguments[0]) == "overlay"


def not_of_overlay(pid, arguments):
    return not of_overlay(pid, arguments)


# Programs, calls, how they fail, when; then what it works without.
FALLBACKS = (
    ("knarrd", "fsconfig", errno.EINVAL, folders_as_fds, "overlayfs without fds: folders by path"),
    ("knarrd", "fsconfig", errno.EOPNOTSUPP, folders_as_fds, "overlayfs that refuses fds: folders by path"),
    ("knarrd", "fsconfig", errno.EINVAL, folders_one_by_one, "overlayfs without lowerdir+: one string"),
    ("knarrd", "fsconfig", errno.EINVAL, lower_folders, "overlayfs that takes no lower folders by fsconfig: mount(2)"),
    ("knarrd", "fsopen", errno.ENOSYS, of_overlay, "overlayfs without fsopen: mount(2)"),
    ("knarrd", "pidfd_send_signal", errno.ENOSYS, None, "knarrd without pidfd_send_signal"),
    ("knarr-pod", "keyctl", errno.ENOSYS, None, "a container without a session keyring"),
    ("knarr-pull", "clone3", errno.ENOSYS, None, "knarr-pull's threads without clone3"),
    ("knarr-pull", "landlock_create_ruleset", errno.ENOSYS, None, "knarr-pull without Landlock"),
    ("knarr-unpack", "landlock_create_ruleset", errno.ENOSYS, None, "knarr-unpack without Landlock"),
)
ABSENT, FORBIDDEN = errno.ENOSYS, errno.EPERM
# Where nothing can stand in for the call.
ERRORS = (
    ("knarrd", "open_tree move_mount clone3 close_range openat2 setns execveat syncfs", ABSENT),
    ("knarrd", "open_tree move_mount openat2 setns", FORBIDDEN),
    ("knarr-pod", "open_tree move_mount clone3 close_range openat2 mount_setattr mount umount2 pivot_root unshare setns "
     "seccomp capset sethostname", ABSENT),
    ("knarr-pod", "open_tree mount_setattr mount unshare seccomp", FORBIDDEN),
    ("knarr-unpack", "open_tree move_mount close_range openat2 mount_setattr mount umount2 pivot_root unshare seccomp "
     "capset", ABSENT),
    ("knarr-unpack", "open_tree unshare seccomp", FORBIDDEN),
)
# What knarrd needs before the first pod.
STARTS = "open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr clone3 close_range umount2 pivot_root unshare mount"


class Node(World):
    def __init__(self):
        super().__init__()
        self.denials, self.serial = Denials(), 0

    def start(self, *args, **kw):
        super().start(*args, preexec_fn=self.denials.hook, **kw)

    def forget_image(self):
        with contextlib.suppress(Rpc):
            self.cri.RemoveImage(image={"image": self.image})

    def life(self):
        """A pull, a pod of everything, a container, an exec, their end."""
        self.serial += 1
        name = f"p{self.serial}"
        self.cri.PullImage(image={"image": self.image})
        pod = self.run_pod(name, pid=POD)
        try:
            wish = self.container_config("c", "sleep", "1000", pid=POD, mounts=[
                {"host_path": "/etc", "container_path": "/mnt/etc", "readonly": True}])
            wish["linux"]["security_context"]["seccomp"] = {"profile_type": "RuntimeDefault"}
            container = self.cri.CreateContainer(pod_sandbox_id=pod, config=wish,
                                                 sandbox_config=self.pod_config(name, pid=POD))["containerId"]
            self.cri.StartContainer(container_id=container)
            said = self.cri.ExecSync(container_id=container, cmd=["sh", "-c", "echo x >/new; cat /new"], timeout="20")
            if said["exitCode"]:
                raise AssertionError(f"exec: {said}")
            self.cri.StopContainer(container_id=container, timeout="0")
        finally:
            self.remove_pod(pod)
            kubelet_clears_pod_cgroup(self, name)

    def same_but_for_blobs(self, before):
        """What was fetched stays for the next pull."""
        def look():
            return [line for line in self.snapshot() if "content/ingest" not in line] == before
        try:
            until("all as before", 5, look)
        except AssertionError:
            self.same_as(before)


def works(w, before, program, call, error, when):
    with w.denials.of(program, call, error, when) as hits:
        w.life()
    if not hits:
        raise AssertionError(f"{program} never called {call}")
    w.forget_image()
    w.same_but_for_blobs(before)


def names_the_call(w, before, program, call, error):
    with w.denials.of(program, call, error) as hits:
        try:
            w.life()
        except Rpc as e:
            said = str(e)
        else:
            raise AssertionError(f"it works without {call}, which was denied {len(hits)} times")
    if not hits:
        raise AssertionError(f"{program} never called {call}: {said}")
    if call not in said:
        raise AssertionError(f"no word of {call}: {said}")
    w.forget_image()
    w.same_but_for_blobs(before)


def start_names_the_call(w, before, call):
    w.kill(15)
    mark = w.log.stat().st_size
    try:
        with w.denials.of("knarrd", call, errno.ENOSYS) as hits:
            w.start(wait=False)
            code = w.process.wait(30)
        said = w.log.read_bytes()[mark:].decode()
        if not hits or code in (0, -9) or call not in said:
            raise AssertionError(f"exit code {code}, {len(hits)} denied: {said}")
        w.same_but_for_blobs(before)
    finally:
        w.kill()
        w.start()
        w.cri.wait_ready()


def main():
    t = Tap()
    with Node() as w:
        w.life()
        w.forget_image()
        before = w.snapshot()
        for program, call, error, when, what in FALLBACKS:
            with t.test(f"{what}: a pod's whole life works"):
                if program == "knarrd":
                    w.restart()  # it remembers what the kernel could not do
                works(w, before, program, call, error, when)
        for program, calls, error in ERRORS:
            for call in calls.split():
                with t.test(f"{program} with {call} answering {errno.errorcode[error]}: the error names it, nothing is left"):
                    names_the_call(w, before, program, call, error)
        with t.test("knarrd with fsopen for all but overlayfs answering ENOSYS: the error names it, nothing is left"):
            with w.denials.of("knarrd", "fsopen", errno.ENOSYS, not_of_overlay):
                try:
                    w.life()
                    raise AssertionError("a pod's /dev/shm without fsopen")
                except Rpc as e:
                    if "fsopen" not in e.message:
                        raise
            w.forget_image()
            w.same_but_for_blobs(before)
        for call in STARTS.split():
            with t.test(f"knarrd does not start without {call} and names it"):
                start_names_the_call(w, before, call)
        with t.test("afterwards all works as before"):
            w.life()
            w.forget_image()
            w.same_but_for_blobs(before)
    t.end()


main()
