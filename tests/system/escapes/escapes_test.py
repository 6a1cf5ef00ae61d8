#!/usr/bin/env python3
"""The known escapes of container runtimes, tried against knarr-pod through knarrd, with hostile images and with hostile
processes that wait in the container for an exec. Each test is the attempt, and the proof that nothing of the host was
touched or seen. A container may end in an error or run contained; both are well."""
import base64
import contextlib
import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kill"))
from world import CONTAINER, POD, Rpc, Tap, World, until  # noqa: E402

MASKED = ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
          "/sys/devices/virtual/powercap"]
READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
DEFAULT_CAPS = 0x00000000a80425fb
RUNTIME_DEFAULT = {"profile_type": "RuntimeDefault"}


def check(good, text):
    if not good:
        raise AssertionError(text)


class Sea(World):
    """World with the helper program in its image, and a victim: a folder of the host that must stay as it is."""

    def __init__(self):
        super().__init__()
        self.look = self.dir / "look"
        subprocess.run(["gcc", "-static", "-O2", "-o", self.look, HERE / "look.c"], check=True)
        self.victim = self.dir / "victim"
        self.victim.mkdir()
        (self.victim / "file").write_text("whole")
        (self.victim / "secret").write_text("SECRET-OF-THE-HOST")
        self.numbers, self.images = 0, {}

    def push(self, name, extra=(), command=("sleep", "1000")):
        return super().push(name, [*extra, ("bin/look", self.look.read_bytes())], command)

    def hostile(self, *entries):
        """A reference to an image with these entries, pulled."""
        self.numbers += 1
        image = self.push(f"hostile{self.numbers}", entries)
        self.cri.PullImage(image={"image": image})
        return image

    def security(self, pid=CONTAINER, net=POD, seccomp=RUNTIME_DEFAULT, **more):
        return {"namespace_options": {"network": net, "pid": pid, "ipc": POD}, "masked_paths": MASKED,
                "readonly_paths": READONLY, "no_new_privs": True, "seccomp": seccomp, **more}

    @contextlib.contextmanager
    def pod(self, pid=CONTAINER):
        """A pod with a network of its own and nothing outside: name and id."""
        self.numbers += 1
        name = f"p{self.numbers}"
        pod = self.run_pod(name, POD, pid=pid)
        try:
            yield Pod(self, name, pod, pid)
        finally:
            self.remove_pod(pod)

    def unharmed(self):
        check(sorted(f.name for f in self.victim.iterdir()) == ["file", "secret"],
              f"in the host's folder: {list(self.victim.iterdir())}")
        check((self.victim / "file").read_text() == "whole", "the host's file was changed")
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        check(str(self.victim) not in mounts, "something is mounted on the host's folder")


class Pod:
    def __init__(self, sea, name, pod, pid):
        self.sea, self.name, self.id, self.pid, self.count = sea, name, pod, pid, 0

    def create(self, *command, image=None, security=None, **more):
        self.count += 1
        name = f"c{self.count}"
        if image:
            more["image"] = {"image": image}
        more["linux"] = {"security_context": self.sea.security(self.pid, **(security or {}))}
        return name, self.sea.create(self.id, self.name, name, *command, pid=self.pid, **more)

    def start(self, *command, **more):
        name, container = self.create(*command, **more)
        self.sea.cri.StartContainer(container_id=container)
        return name, container

    def run(self, *command, **more):
        """What it printed, once it has ended."""
        name, container = self.start(*command, **more)
        self.sea.exited(container)
        return self.text(name)

    def attempt(self, *command, **more):
        """run(), where a refused create or start is an answer too: "refused: …"."""
        try:
            return self.run(*command, **more)
        except Rpc as e:
            return f"refused: {e.message}"

    def text(self, name):
        try:
            return "\n".join(self.sea.logged(self.name, name))
        except FileNotFoundError:
            return ""

    def waits_for(self, name, text, seconds=20):
        until(f"\"{text}\" in the log of {name}", seconds, lambda: text in self.text(name))

    def exec(self, container, *command, timeout=20):
        a = self.sea.cri.ExecSync(container_id=container, cmd=list(command), timeout=str(timeout))
        return (base64.b64decode(a.get("stdout", "")) + base64.b64decode(a.get("stderr", ""))).decode(errors="replace")

    def sh(self, container, script):
        return self.exec(container, "/bin/sh", "-c", script)


def no_foreign(text):
    bad = [line for line in text.splitlines() if "FOREIGN" in line]
    check(not bad, f"{len(bad)} times: " + "; ".join(sorted(set(re.sub(r"of \d+", "of N", b) for b in bad))[:8]))


def no_power(text):
    """A tracer sees the program that is about to exec, which has no more than the container has: its streams and the
    socket that reports a failed exec; and the init, which has nothing."""
    fine = (r"FOREIGN process \d+ traced|FOREIGN (exe|environ|maps|auxv|syscall|stack|mem) of \d+|FOREIGN fd of \d+: [012] (pipe:.*|/dev/null)|"
            r"FOREIGN fd of \d+: \d+ socket:.*|FOREIGN (root|cwd) of 1: ")
    lines = [line for line in text.splitlines() if "FOREIGN" in line and not re.match(fine, line)]
    caps = [line for line in lines if line.startswith("FOREIGN caps")]
    no_foreign("\n".join(line for line in lines if line not in caps))
    more = [c for c in caps if int(c.rsplit(" ", 1)[1], 16) & ~(DEFAULT_CAPS | 1 << 19)]
    check(not more, f"it could be traced with more capabilities: {more[:3]}")


def fine_fds(text):
    lines = [line.split(" ", 2) for line in text.splitlines() if line.startswith("fd ")]
    check(len(lines) == 3, f"not three fds: {lines}")
    for _, number, to in lines:
        check(int(number) <= 2 and (to.startswith("pipe:") or to == "/dev/null"), f"fd {number} leads to {to}")


# --- CVE-2024-21626: fds and the working folder ------------------------------------------------------------------------

def test_fds(tap, w):
    with w.pod() as p:
        with tap.test("a container begins with fds 0, 1, 2 and no other"):
            fine_fds(p.run("/bin/look", "fds"))
        _, c = p.start("/bin/sleep", "1000")
        with tap.test("an exec begins with fds 0, 1, 2 and no other"):
            fine_fds(p.exec(c, "/bin/look", "fds"))
        with tap.test("neither the host's /dev/null nor another pod's can be changed by fd 0"):
            before = os.stat("/dev/null")
            p.sh(c, "chmod 600 /proc/self/fd/0; chown 1000 /proc/self/fd/0")
            p.run("/bin/sh", "-c", "chmod 600 /proc/self/fd/0 /proc/keys; chown 1000 /proc/self/fd/0")
            after = os.stat("/dev/null")
            check((before.st_mode, before.st_uid) == (after.st_mode, after.st_uid), "the host's /dev/null was changed")
            with w.pod() as other:
                out = other.run("/bin/stat", "-L", "-c", "%a %u", "/proc/self/fd/0", "/proc/keys")
                check(out.splitlines()[0] == "666 0" and out.splitlines()[1].endswith(" 0") and
                      out.splitlines()[1] != "600 0", f"another pod sees {out.split()}")


def test_cwd(tap, w):
    numbers = [*range(3, 24), *range(64, 72)]
    with w.pod() as p:
        with tap.test("CVE-2024-21626: no working folder by /proc/self/fd/N"):
            for n in numbers:
                out = p.attempt("/bin/ls", ".", working_dir=f"/proc/self/fd/{n}")
                check(out.startswith("refused"), f"fd {n}: {out[:200]}")
        with tap.test("CVE-2024-21626: nor by the image's own link to it"):
            image = w.hostile(*((f"w{n}", f"/proc/self/fd/{n}") for n in numbers))
            for n in numbers:
                out = p.attempt("/bin/ls", ".", image=image, working_dir=f"/w{n}")
                check(out.startswith("refused"), f"fd {n}: {out[:200]}")
        with tap.test("CVE-2024-21626: nor in an exec of a container whose folder became one"):
            _, c = p.start("/bin/sh", "-c", "mkdir /w; sleep 1000", working_dir="/w")
            for n in numbers:
                p.sh(c, f"cd /; rmdir /w 2>/dev/null || rm /w; ln -s /proc/self/fd/{n} /w")
                with contextlib.suppress(Rpc):
                    out = p.exec(c, "/bin/ls", ".")
                    raise AssertionError(f"fd {n}: {out[:200]}")
                p.sea.cri.RemoveContainer(container_id=c)
                _, c = p.start("/bin/sh", "-c", "sleep 1000", working_dir="/w")


def test_program_by_fd(tap, w):
    """A program found by a leaked fd would be a file of the host or of another pod that runs here, and that can then be
    written by /proc/PID/exe (the third attack of CVE-2024-21626)."""
    with w.pod() as victim, w.pod() as p:
        _, prey = victim.start("/bin/sleep", "1000")
        pid = w.pid(prey)
        ways = [f"/{pid}/root/bin/true", "/self/exe", "/../bin/true", "/../usr/bin/true", "/bin/true"]
        with tap.test("no program is reached by a fd of the joining process"):
            for n in (3, 4, 5, 6, 7, 8, 9, 10, 66, 67, 68, 69):
                for way in ways:
                    path = f"/proc/self/fd/{n}{way}"
                    if n in (3, 6, 67, 68) or way == ways[0]:
                        out = p.attempt(path)
                        check(out.startswith("refused"), f"{path} ran: {out[:200]}")
        with tap.test("nor as a script's interpreter, nor by exec"):
            image = w.hostile(*((f"s{n}", f"#!/proc/self/fd/{n}/{pid}/root/bin/true\n".encode()) for n in (3, 66, 67, 68)))
            _, c = p.start("/bin/sleep", "1000", image=image)
            for n in (3, 66, 67, 68):
                out = p.attempt(f"/s{n}", image=image)
                check(out.startswith("refused"), f"/s{n} ran: {out[:200]}")
                for command in (f"/s{n}", f"/proc/self/fd/{n}/{pid}/root/bin/true"):
                    with contextlib.suppress(Rpc):
                        a = w.cri.ExecSync(container_id=c, cmd=[command], timeout="10")
                        check(a.get("exitCode"), f"exec of {command} ran")


# --- CVE-2019-5736: the runtime's own program --------------------------------------------------------------------------

def test_own_program(tap, w):
    program = w.program("knarr-pod")
    before = hashlib.sha256(program.read_bytes()).hexdigest()
    image = w.hostile(("evil", b"#!/proc/self/exe\n"), ("bin/self", "/proc/self/exe"))
    for pid in (CONTAINER, POD):
        with w.pod(pid) as p, tap.test(f"CVE-2019-5736: knarr-pod's program cannot be written (PID namespace: {pid})"):
            name, c = p.start("/bin/look", "overwrite", "6", image=image, security={"seccomp": None})
            p.waits_for(name, "watching")
            for _ in range(12):
                for command in ("/evil", "/bin/self", "/proc/self/exe"):
                    with contextlib.suppress(Rpc):
                        p.exec(c, command, timeout=5)
            p.attempt("/evil", image=image)
            p.attempt("/proc/self/exe", image=image)
            w.exited(c)
            no_foreign(p.text(name))
            check(hashlib.sha256(program.read_bytes()).hexdigest() == before, "knarr-pod was written")


# --- the joining process -----------------------------------------------------------------------------------------------

def watch(p, seconds, security, joins, judge=no_foreign):
    """A container that watches while others join: 60 execs, and starts where the PID namespace is shared."""
    name, c = p.start("/bin/look", "watch", str(seconds), security={"seccomp": None, **security})
    p.waits_for(name, "watching")
    for _ in range(joins):
        with contextlib.suppress(Rpc):
            p.exec(c, "/bin/true", timeout=10)
    if p.pid == POD:
        for _ in range(3):
            _, other = p.start("/bin/true")
            w_exited = p.sea.exited(other)
            check(w_exited["state"] == "CONTAINER_EXITED", "it did not end")
    p.sea.exited(c, 40)
    judge(p.text(name))


def test_joiner(tap, w):
    for pid in (CONTAINER, POD):
        with w.pod(pid) as p:
            with tap.test(f"a process that joins shows no fd, root, cwd, environ, memory (PID namespace: {pid})"):
                watch(p, 4, {}, 60)
    with w.pod(CONTAINER) as p, tap.test("nor to another user of the container"):
        watch(p, 3, {"run_as_user": {"value": "65534"}}, 40)
    for pid in (CONTAINER, POD):
        with w.pod(pid) as p, tap.test(f"nor to a tracer (CAP_SYS_PTRACE, PID namespace: {pid})"):
            watch(p, 4, {"capabilities": {"add_capabilities": ["SYS_PTRACE"]}}, 60, no_power)
            _, c = p.start("/bin/sleep", "1000", security={"capabilities": {"add_capabilities": ["SYS_PTRACE"]}})
            out = p.sh(c, "cat /proc/self/status; ps -o pid,ppid,sid,args")
            got = facts(out)
            check((got["Seccomp"], got["NoNewPrivs"]) == ("2", "1"), str(got))
            fine_fds(p.exec(c, "/bin/look", "fds"))
            check(w.cri.ExecSync(container_id=c, cmd=["/bin/sh", "-c", "exit 7"], timeout="9")["exitCode"] == 7, "exit code")
            try:
                p.exec(c, "/bin/none")
                raise AssertionError("a program that is not there was executed")
            except Rpc as e:
                check("/bin/none" in e.message, e.message)
            begun = time.monotonic()
            try:
                p.exec(c, "/bin/sleep", "60", timeout=1)
            except Rpc as e:
                check(e.code == "DeadlineExceeded" and time.monotonic() - begun < 10, str(e))
            check("sleep 60" not in p.sh(c, "ps"), "the exec outlived its time")


def test_init(tap, w):
    script = ("for f in root cwd exe ns/mnt fd/0; do readlink /proc/1/$f; done; ls -d /proc/1/fd/* /proc/1/root/*; "
              "cat /proc/1/environ /proc/1/maps /proc/1/mem; echo; echo end; cat /proc/1/comm")
    with w.pod(POD) as p:
        with tap.test("the tiny init of a shared PID namespace cannot be looked into"):
            out = p.run("/bin/sh", "-c", f"({script}) 2>/dev/null")
            check(out.split() == ["end", "knarr-init"], f"it shows {out[:300]}")
        with tap.test("not even a tracer (CAP_SYS_PTRACE) finds anything of the host there"):
            out = p.run("/bin/sh", "-c", "ls -A /proc/1/root/ /proc/1/cwd/ /proc/1/fd; echo x > /proc/1/root/x; "
                                         "cat /proc/1/environ; grep Cap /proc/1/status; grep Seccomp: /proc/1/status",
                        security={"capabilities": {"add_capabilities": ["SYS_PTRACE"]}, "seccomp": None})
            caps = re.findall(r"Cap\w+:\t([0-9a-f]+)", out)
            check(len(caps) == 5 and not any(int(c, 16) for c in caps), f"its capabilities are {caps}")
            check("Seccomp:\t2" in out, "it has no filter")
            for name in ("proc", "sys", "dev", "mask", "x", "bin"):
                check(not re.search(rf"^{name}$", out, re.M), f"its root is {out[:300]}")


def test_stopped_joiner(tap, w):
    with tap.test("a container that stops whoever joins hurts only itself"):
        with w.pod() as good:
            _, other = good.start("/bin/sleep", "1000")
            with w.pod() as p:
                name, c = p.start("/bin/look", "stop", "60", security={"seccomp": None})
                p.waits_for(name, "watching")
                calls = [w.cri.later("ExecSync", seconds=20, container_id=c, cmd=["/bin/true"], timeout="2")
                         for _ in range(4)]
                check(good.exec(other, "/bin/echo", "well").strip() == "well", "another pod suffers")
                for call in calls:
                    with contextlib.suppress(Rpc):
                        call.result(40)
                begun = time.monotonic()
                w.cri.StopPodSandbox(pod_sandbox_id=p.id)
                check(time.monotonic() - begun < 30, "the pod takes long to stop")
            check(good.exec(other, "/bin/echo", "well").strip() == "well", "another pod suffers")


# --- mounts ------------------------------------------------------------------------------------------------------------

def up_to(path):
    return "../../../../../../../../../.." + str(path)


def test_linked_destinations(tap, w):
    with w.pod() as p:
        for link in ("proc", "sys"):
            with tap.test(f"CVE-2019-16884: an image whose /{link} is a link is refused"):
                out = p.attempt("/bin/true", image=w.hostile((link, "/tmp")))
                check(out.startswith("refused") and "symbolic link" in out, out[:200])
        for link in ("dev", "dev/shm", "dev/null", "dev/console", "dev/pts", "dev/mqueue", "etc/resolv.conf", "etc/hosts",
                     "etc/hostname", "etc", "sys/fs/cgroup", "proc/kcore", "run"):
            with tap.test(f"CVE-2021-30465: the image's /{link} is a link to the host's folder: it stays inside"):
                for to in (w.victim, w.victim / "file", up_to(w.victim / "new"), "/proc/1/root"):
                    entries = [(link, str(to))]
                    out = p.attempt("/bin/sh", "-c", f"cat {w.victim}/secret; echo x > {w.victim}/file; echo ran",
                                    image=w.hostile(*entries))
                    check("SECRET" not in out, f"{to}: the host's file was read")
                    w.unharmed()
        with tap.test("a mount of the host's onto the image's link stays inside"):
            data = w.dir / "data"
            data.mkdir(exist_ok=True)
            image = w.hostile(("vol", up_to(w.victim)), ("loop", "loop"), ("sub", str(w.victim) + "/a/b"))
            for where in ("/vol", "/vol/deep/er", "/sub", "/sub/c"):
                p.attempt("/bin/sh", "-c", f"echo x > {where}/made", image=image,
                          mounts=[{"container_path": where, "host_path": str(data)}])
                w.unharmed()
            check(p.attempt("/bin/true", image=image, mounts=[{"container_path": "/loop/x", "host_path": str(data)}])
                  .startswith("refused"), "a loop of links is walked")
        for where in ("/proc/self/attr", "/proc/sys/kernel/core_pattern", "/proc/1", "/hidden/self/attr"):
            with tap.test(f"CVE-2019-16884, CVE-2025-52881: nothing is mounted over a part of /proc ({where})"):
                out = p.attempt("/bin/true", image=w.hostile(("hidden", "/proc")),
                                mounts=[{"container_path": where, "host_path": str(w.dir / "data")}])
                check(out.startswith("refused") and "/proc" in out, out[:200])


def test_image_devices(tap, w):
    device = tarfile.TarInfo("etc/passwd")
    device.type, device.devmajor, device.devminor, device.mode = tarfile.CHRTYPE, 240, 77, 0o666
    pipe = tarfile.TarInfo("etc/group")
    pipe.type, pipe.mode = tarfile.FIFOTYPE, 0o666
    with w.pod() as p, tap.test("a device or a pipe at the image's /etc/passwd and /etc/group is not opened on the host"):
        image = w.hostile(("etc/passwd", device), ("etc/group", pipe))
        out = p.attempt("/bin/id", "-u", image=image)  # there is no such device: opening it would fail
        check(out.strip() == "0", out[:200])


def test_swapped_links(tap, w):
    with w.pod() as p, tap.test("CVE-2021-30465: links that are swapped while containers start lead nowhere"):
        volume = w.dir / "volume"
        data = w.dir / "data2"
        for folder in (volume / "real", data):
            folder.mkdir(parents=True)
        (volume / "link").symlink_to(up_to(w.victim))
        mount = {"container_path": "/vol", "host_path": str(volume)}
        swappers = []
        for _ in range(2):
            name, c = p.start("/bin/look", "swap", "/vol/real", "/vol/link", mounts=[mount], security={"seccomp": None})
            swappers.append(c)
        lines = lambda: {m for m in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                         if str(w.dir) in m or str(w.victim) in m or "/n" in m.split()[4][-4:] or m.split()[4].endswith("/sub")}
        before = lines()
        ran = 0
        for i in range(40):
            out = p.attempt("/bin/sh", "-c", f"cat {w.victim}/secret /vol/real/secret /vol/link/secret; echo x > /vol/real/file; "
                                             f"echo x > /vol/link/file; echo ran",
                            mounts=[mount, {"container_path": f"/vol/real/n{i}", "host_path": str(data)},
                                    {"container_path": "/vol/link/sub", "host_path": str(data)}])
            ran += "ran" in out
            check("SECRET" not in out, "the host's file was read")
            w.unharmed()
        for c in swappers:
            w.cri.StopContainer(container_id=c, timeout="0")
        check(ran, "none of the containers ran")
        check(lines() <= before, f"mounts reached the host: {lines() - before}")


# --- confinement, at start and in exec ---------------------------------------------------------------------------------

def facts(text):
    return dict(re.findall(r"^(\w+):\s*(\S.*)$", text, re.M))


def test_confined(tap, w):
    status = "cat /proc/self/status; for n in mnt pid net ipc uts cgroup; do echo ns_$n: $(readlink /proc/self/ns/$n); done"
    same = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp",
            "Seccomp_filters", "ns_mnt", "ns_pid", "ns_net", "ns_ipc", "ns_uts", "ns_cgroup")
    with w.pod() as p:
        name, c = p.start("/bin/sh", "-c", f"{status}; echo end; sleep 1000")
        p.waits_for(name, "end")
        started, joined = facts(p.text(name)), facts(p.sh(c, status))
        with tap.test("capabilities are exactly the default set, none inheritable or ambient"):
            for key in ("CapPrm", "CapEff", "CapBnd"):
                check(int(started[key], 16) == DEFAULT_CAPS, f"{key} {started[key]}")
            check(int(started["CapInh"], 16) == int(started["CapAmb"], 16) == 0, "inheritable or ambient ones")
        with tap.test("no_new_privs and the filter are set"):
            check((started["NoNewPrivs"], started["Seccomp"]) == ("1", "2"), str(started))
        with tap.test("an exec has the same confinement as the container"):
            check([started[k] for k in same] == [joined[k] for k in same],
                  str([(k, started[k], joined[k]) for k in same if started[k] != joined[k]]))
        with tap.test("no namespace is the host's"):
            v2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")  # on v1 the binds hide the host's cgroups
            for n in ("mnt", "pid", "net", "ipc", "uts") + (("cgroup",) if v2 else ()):
                check(started[f"ns_{n}"] != os.readlink(f"/proc/self/ns/{n}"), n)
    with w.pod() as p, tap.test("capabilities that are added and dropped; a user without any"):
        more = {"capabilities": {"add_capabilities": ["NET_ADMIN"], "drop_capabilities": ["ALL"]}}
        got = facts(p.run("/bin/cat", "/proc/self/status", security=more))
        check(int(got["CapBnd"], 16) == int(got["CapEff"], 16) == 1 << 12, str(got))
        name, c = p.start("/bin/sh", "-c", "cat /proc/self/status; echo end; sleep 1000",
                          security={"run_as_user": {"value": "1000"}})
        p.waits_for(name, "end")
        for got in (facts(p.text(name)), facts(p.exec(c, "/bin/cat", "/proc/self/status"))):
            check(int(got["CapEff"], 16) == int(got["CapPrm"], 16) == 0 and got["Uid"].split() == ["1000"] * 4, str(got))


REFUSED = ("add_key request_key keyctl bpf perf_event_open userfaultfd mount umount2 pivot_root fsopen open_tree move_mount "
           "setns open_by_handle_at init_module finit_module delete_module kexec_load reboot swapon swapoff acct "
           "settimeofday clock_settime iopl ioperm quotactl syslog vhangup sethostname io_uring_setup fanotify_init "
           "lookup_dcookie vsock unshare_user unshare_mount clone_user").split()
ALLOWED = "socket unix memfd_create epoll_create1 inotify_init1 eventfd2 mkdir chmod chown getpid membarrier pidfd_open " \
          "sched_yield setuid kill chroot clone".split()


def test_seccomp(tap, w):
    with w.pod() as p:
        name, c = p.start("/bin/sh", "-c", "/bin/look calls; rmdir /tmp/made; echo end; sleep 1000")
        p.waits_for(name, "end")
        started = dict(line.split(" ", 1) for line in p.text(name).splitlines() if " " in line)
        joined = dict(line.split(" ", 1) for line in p.exec(c, "/bin/look", "calls").splitlines())
        for what, got in (("container", started), ("exec", joined)):
            with tap.test(f"RuntimeDefault refuses what reaches the kernel's depths ({what})"):
                wrong = {n: got.get(n) for n in REFUSED if got.get(n) not in ("EPERM", "ENOSYS")}
                check(not wrong, str(wrong))
            with tap.test(f"RuntimeDefault lets ordinary programs work ({what})"):
                wrong = {n: got.get(n) for n in ALLOWED if got.get(n) != "ok"}
                check(not wrong, str(wrong))
            with tap.test(f"clone3 answers ENOSYS, so that libc falls back on clone ({what})"):
                check(got["clone3"] == "ENOSYS", got["clone3"])


def test_kernel_files(tap, w):
    with w.pod() as p:
        name, c = p.start("/bin/sleep", "1000")

        def both(script):
            return p.run("/bin/sh", "-c", script), p.sh(c, script)

        with tap.test("masked paths are empty and cannot be written, uncovered or changed"):
            for out in both("for f in " + " ".join(MASKED) + "; do [ -e $f ] || continue; "
                            "if [ -d $f ]; then ls -A $f; else head -c 1 $f | wc -c | grep -v ^0; fi; umount $f 2>/dev/null && echo umounted $f; "
                            "chmod 777 $f 2>/dev/null && echo changed $f; [ -d $f ] && touch $f/x 2>/dev/null && echo made $f/x; done; echo end"):
                check(out.strip() == "end", out[:300])
        with tap.test("kernel settings cannot be written"):
            files = ("/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/vm/panic_on_oom /proc/sysrq-trigger "
                     "/proc/sys/fs/binfmt_misc/register /sys/kernel/uevent_helper /sys/power/state /sys/kernel/mm/ksm/run "
                     "/proc/irq/default_smp_affinity /proc/sys/kernel/hostname /proc/sys/net/ipv4/ip_forward")
            pattern = pathlib.Path("/proc/sys/kernel/core_pattern").read_text()
            for out in both(f"for f in {files}; do (echo x > $f) 2>/dev/null && echo wrote $f; done; "
                            "mount -o remount,rw /sys 2>/dev/null && echo remounted; umount /proc/sys 2>/dev/null && echo umounted; echo end"):
                check(out.strip() == "end", out[:300])
            check(pathlib.Path("/proc/sys/kernel/core_pattern").read_text() == pattern, "core_pattern was changed")
        with tap.test("sysfs and all cgroup mounts are read-only; no release_agent is within reach"):
            for out in both("grep -E ' /sys| /proc/(sys|irq|bus|fs)' /proc/self/mountinfo"):
                wrong = [line for line in out.splitlines() if not line.split()[5].startswith("ro")]
                check(out and not wrong, "\n".join(wrong))
            for out in both("find /sys/fs/cgroup -name release_agent; find /sys/fs/cgroup -name cgroup.procs -o -name tasks | "
                            "while read f; do (echo 0 > $f) 2>/dev/null && echo wrote $f; done; "
                            "mkdir /sys/fs/cgroup/*/x 2>/dev/null && echo made; echo end"):
                check(out.strip() == "end", out[:300])
        with tap.test("a device that is made cannot be opened"):
            minors = pathlib.Path("/proc/partitions").read_text().split()[4:6]
            for out in both(f"rm -f /disk /mem /tun /kmsg; mknod /disk b {minors[0]} {minors[1]}; mknod /mem c 1 1; mknod /kmsg c 1 11; "
                            "mknod /fuse c 10 229; for f in /disk /mem /kmsg /fuse; do head -c 1 $f >/dev/null 2>&1 && echo read $f; "
                            "(echo x > $f) 2>/dev/null && [ -b $f -o -c $f ] && echo wrote $f; done; rm -f /fuse; echo end"):
                check(out.strip() == "end", out[:300])
        with tap.test("the basic devices work, and there are no others"):
            for out in both("ls /dev; head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; echo x > /dev/null && echo end"):
                words = set(out.split())
                check("end" in words and words <= set("core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom "
                                                       "zero end 1 console".split()), str(words))
    with tap.test("every container has a session keyring of its own"):
        serials = [subprocess.run([w.look, "keyring"], capture_output=True, text=True).stdout.strip()]
        for _ in range(2):
            with w.pod() as p:
                serials.append(p.run("/bin/look", "keyring", security={"seccomp": None}).strip())
        check(len(set(serials)) == 3, str(serials))


def main():
    tap = Tap()
    with Sea() as w:
        with w.pod() as p:
            p.run("/bin/true")  # the parent cgroups stay
        before = w.snapshot()
        only = sys.argv[1:]
        for test in (test_fds, test_cwd, test_program_by_fd, test_own_program, test_joiner, test_init, test_stopped_joiner,
                     test_linked_destinations, test_image_devices, test_swapped_links, test_confined, test_seccomp, test_kernel_files):
            if only and test.__name__ not in only:
                continue
            try:
                test(tap, w)
            except Exception as problem:  # what was to be prepared for the tests of this group
                with tap.test(f"{test.__name__} can be tried"):
                    raise problem
        with tap.test("the host is as before"):
            w.unharmed()
            for image in [i["id"] for i in w.cri.ListImages().get("images", []) if not any("t/box" in t for t in i["repoTags"])]:
                w.cri.RemoveImage(image={"image": image})
            w.same_as(before, 20)
    tap.end()


main()
