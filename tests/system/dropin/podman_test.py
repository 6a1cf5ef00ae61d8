#!/usr/bin/env python3
"""podman with knarr-oci as its runtime: real containers under the distribution's podman and conmon, with storage of their own."""
import json
import os
import subprocess
import sys

from engine import CGROUPS, IMAGE, SERVICE, SIZE, V2, Engine, Tap, contains, equal, missing, until

NONE = ("--network", "none")


def into_own_cgroup_folder():
    """On cgroup v1 podman makes plain folders for the controllers that are not mounted, which other tests would take
    for controllers: it gets a /sys/fs/cgroup of its own, with the same hierarchies."""
    if V2:
        return
    if os.environ.get("KNARR_OWN_NAMESPACES") != "1":
        os.execvpe("unshare", ["unshare", "--mount", sys.executable, *sys.argv], os.environ | {"KNARR_OWN_NAMESPACES": "1"})
    links = {d.name: os.readlink(d) for d in CGROUPS.iterdir() if d.is_symlink()}
    held = {d.name: os.open(d, os.O_PATH) for d in CGROUPS.iterdir() if os.path.ismount(d)}
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", CGROUPS], check=True)
    for name, fd in held.items():
        (CGROUPS / name).mkdir()
        subprocess.run(["mount", "--no-canonicalize", "--bind", f"/proc/{os.getpid()}/fd/{fd}", CGROUPS / name], check=True)
        os.close(fd)
    for name, target in links.items():
        (CGROUPS / name).symlink_to(target)


class Podman(Engine):
    def start(self):
        for name in ("tmp", "etc"):
            (self.dir / name).mkdir()
        storage, engine = self.dir / "etc/storage.conf", self.dir / "etc/containers.conf"
        storage.write_text(f'[storage]\ndriver = "{self.storage()}"\ngraphroot = "{self.dir}/root"\nrunroot = "{self.dir}/run"\n')
        engine.write_text(f'[containers]\nlog_driver = "k8s-file"\ncgroups = "enabled"\n'
                          f'[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\nlock_type = "file"\nruntime = "knarr"\n'
                          f'tmp_dir = "{self.dir}/tmp"\nstatic_dir = "{self.dir}/root/libpod"\nvolume_path = "{self.dir}/volumes"\n'
                          f'[engine.runtimes]\nknarr = ["{self.oci}"]\n')
        policy = self.dir / "etc/policy.json"
        policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
        self.env |= {"CONTAINERS_CONF": str(engine), "CONTAINERS_STORAGE_CONF": str(storage)}
        self.command = ["podman", "--root", self.dir / "root", "--runroot", self.dir / "run"]
        self("load", "-q", "--signature-policy", policy, "-i", self.archive)

    def stop(self):
        self("rm", "-fa", "-t", "0", check=False)

    def runs(self, *words, **kw):
        return self("run", "--cgroup-parent", f"/{self.cgroup}", *NONE, *words, **kw)

    def state(self, name, field):
        return self.out("inspect", "-f", "{{.State.%s}}" % field, name)


def basics(podman, tap):
    with tap.test("podman runs containers by knarr-oci"):
        contains(podman.out("info", "-f", "{{.Host.OCIRuntime.Path}}"), "knarr-oci")
    with tap.test("run gives the output and the exit code, and --rm leaves nothing"):
        equal(podman.runs("--rm", IMAGE, "echo", "hello").stdout, "hello\n")
        equal(podman.runs("--rm", IMAGE, "sh", "-c", "exit 42", check=False).returncode, 42)
        until("no container is left", 30, lambda: podman.out("ps", "-aq") == "")
        until("no cgroup is left", 20, lambda: not [c for c in podman.cgroups() if "libpod-" in c.name])
    with tap.test("a program that does not exist or may not run is podman's 127 and 126"):
        equal(podman.runs("--rm", IMAGE, "nonesuch", check=False).returncode, 127)
        equal(podman.runs("--rm", IMAGE, "/dev/null", check=False).returncode, 126)
    with tap.test("user, capabilities, read-only root, tmpfs, volume and host name are as told"):
        shared = podman.dir / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        script = ("id -u; id -G; hostname; grep CapEff /proc/self/status | cut -f2; touch /x 2>/dev/null || echo ro;"
                  "touch /t/x && echo tmpfs; echo there >/v/file; ulimit -n")
        equal(podman.runs("--rm", "--user", "1000:1000", "--group-add", "2000", "--hostname", "boat", "--cap-drop", "all",
                          "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/t:notmpcopyup", "-v", f"{shared}:/v",
                          "--ulimit", "nofile=100:200", IMAGE, "sh", "-c", script).stdout.split(), ["1000", "1000", "2000", "boat", "0" * 16, "ro", "tmpfs", "100"])
        equal((shared / "file").read_text(), "there\n")
    with tap.test("podman's seccomp profile holds, --privileged is without"):
        equal(podman.runs("--rm", IMAGE, "grep", "Seccomp:", "/proc/self/status").stdout, "Seccomp:\t2\n")
        equal(podman.runs("--rm", "--privileged", IMAGE, "grep", "Seccomp:", "/proc/self/status").stdout, "Seccomp:\t0\n")
        equal(podman.runs("--rm", "--privileged", IMAGE, "unshare", "-m", "echo", "free").stdout, "free\n")


def life(podman, tap):
    box = podman.runs("-d", "--name", "box", "-m", "32m", "--cpus", "0.5", "--pids-limit", "50", IMAGE, "sh", "-c",
                      SERVICE).stdout.strip()
    with tap.test("the limits stand in the kernel"):
        equal((podman.memory(box), podman.cpu(box), podman.pids(box)), (32 << 20, 0.5, 50))
    with tap.test("update changes them"):
        podman("update", "--memory", "64m", "--cpus", "1.5", "box")
        equal((podman.memory(box), podman.cpu(box)), (64 << 20, 1.5))
    with tap.test("logs have both streams"):
        until("both lines", 20, lambda: "problem" in podman("logs", "box").stderr)
        equal(podman("logs", "box").stdout, "started\n")
    with tap.test("exec: output, user, environment, folder, exit codes"):
        equal(podman.out("exec", "-u", "app", "-e", "A=b", "-w", "/home", "box", "sh", "-c", "id -un; echo $A; pwd").split(),
              ["app", "b", "/home"])
        equal(podman("exec", "box", "sh", "-c", "exit 7", check=False).returncode, 7)
        equal(podman("exec", "box", "nonesuch", check=False).returncode, 127)
        equal(podman.out("exec", "-i", "box", "cat", stdin=None, input="in and out\n"), "in and out")
    with tap.test("exec -it and run -it have a terminal of the right size"):
        for words in (("exec", "-it", "box"), ("run", "-it", "--rm", "--cgroup-parent", f"/{podman.cgroup}", *NONE, IMAGE)):
            code, shown = podman.terminal(*words, "sh", "-c", SIZE)
            equal((code, "/dev/pts/" in shown, "33 77" in shown), (0, True, True))
    with tap.test("pause stops it, unpause goes on"):
        podman("pause", "box")
        equal((podman.state("box", "Status"), podman.frozen(box)), ("paused", True))
        podman("unpause", "box")
        equal((podman.state("box", "Status"), podman.frozen(box)), ("running", False))
    with tap.test("stats and top see the processes"):
        contains(podman.out("stats", "--no-stream", "--format", "{{.MemUsage}}", "box"), "MB")
        contains(podman.out("top", "box", "args"), "sleep 0.05")
    with tap.test("stop sends the signal and has the code"):
        podman("stop", "-t", "60", "box")
        equal((podman.state("box", "Status"), podman.state("box", "ExitCode")), ("exited", "3"))
        contains(podman("logs", "box").stdout, "ended")
    with tap.test("it starts, restarts and is killed"):
        podman("start", "box")
        podman("restart", "-t", "0", "box")
        equal(podman.state("box", "Running"), "true")
        podman("kill", "box")
        until("it has ended", 20, lambda: podman.state("box", "Running") == "false")
        equal(podman.state("box", "ExitCode"), "137")
    with tap.test("rm leaves no cgroup"):
        podman("rm", "-f", "-t", "0", "box")
        until("no cgroup is left", 20, lambda: not [c for c in podman.cgroups() if "libpod-" in c.name])


def ends(podman, tap):
    with tap.test("a container out of memory is killed"):  # podman's OOMKilled stays false on cgroup v1, with runc too
        equal(podman.runs("-m", "16m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1",
                          check=False).returncode, 137)
    with tap.test("attach reaches a running container's streams"):
        podman.runs("-di", "--name", "echo", IMAGE, "sh", "-c", "read line; echo \"got $line\"; read line")
        with subprocess.Popen([*map(str, podman.command), "attach", "--sig-proxy=false", "echo"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=podman.env) as attached:
            attached.stdin.write("a line\n")
            attached.stdin.flush()
            equal(attached.stdout.readline(), "got a line\n")
            podman("kill", "echo")
    with tap.test("two containers share namespaces"):
        podman.runs("-d", "--name", "first", IMAGE, "sleep", "1000")
        equal(podman.out("run", "--rm", "--cgroup-parent", f"/{podman.cgroup}", "--network", "container:first", "--pid",
                         "container:first", "--ipc", "container:first", IMAGE, "cat", "/proc/1/comm"), "sleep")
    with tap.test("nothing of a removed container is left in knarr-oci's folder"):
        ids = podman.out("ps", "-aq", "--no-trunc").split()
        podman("rm", "-fa", "-t", "0")
        equal([one for one in ids if os.path.exists(f"/run/knarr-oci/{one}")], [])


def main():
    tap = Tap()
    lack = missing("podman", "conmon")
    if lack:
        tap.skip("knarr-oci under podman", lack)
        tap.end()
    into_own_cgroup_folder()
    with Podman() as podman:
        basics(podman, tap)
        life(podman, tap)
        ends(podman, tap)
    tap.end()


if __name__ == "__main__":
    main()
