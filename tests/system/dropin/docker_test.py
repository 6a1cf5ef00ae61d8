#!/usr/bin/env python3
"""knarr-oci is docker's default runtime: a private dockerd of the distribution runs real containers through it."""
import contextlib
import json
import subprocess

from engine import IMAGE, SERVICE, SIZE, Engine, Tap, contains, equal, missing, until

NONE = ("--network", "none")


class Docker(Engine):
    def start(self):
        self.command = ["/usr/bin/docker", "-H", f"unix://{self.dir}/socket"]
        config = self.dir / "daemon.json"
        config.write_text(json.dumps({"runtimes": {"knarr": {"path": str(self.oci)}}, "default-runtime": "knarr"}))
        driver = {"overlay": "overlay2", "vfs": "vfs"}[self.storage()]
        self.serve("dockerd", "--config-file", config, "--data-root", self.dir / "data", "--exec-root", self.dir / "exec",
                   "--host", f"unix://{self.dir}/socket", "--pidfile", self.dir / "pid", "--iptables=false",
                   "--ip6tables=false", "--ip-forward=false", "--ip-masq=false", "--bridge=none",
                   "--storage-driver", driver, "--exec-opt", "native.cgroupdriver=cgroupfs",
                   "--cgroup-parent", f"/{self.cgroup}")
        self.answers("version")
        self("load", "-i", self.archive)

    def stop(self):
        for name in self.out("ps", "-aq", check=False).split():
            self("rm", "-f", name, check=False)
        super().stop()

    def state(self, name, field):
        return self.out("inspect", "-f", "{{.State.%s}}" % field, name)


def basics(docker, tap):
    with tap.test("docker runs containers by knarr-oci unless told otherwise"):
        equal(docker.out("info", "-f", "{{.DefaultRuntime}}"), "knarr")
    with tap.test("run gives the output and the exit code, and --rm leaves nothing"):
        equal(docker.out("run", "--rm", *NONE, IMAGE, "echo", "hello"), "hello")
        equal(docker("run", "--rm", *NONE, IMAGE, "sh", "-c", "exit 42", check=False).returncode, 42)
        equal(docker.out("ps", "-aq"), "")
        until("no cgroup is left", 20, lambda: not docker.cgroups())
        equal(docker.states(), [])
    with tap.test("a program that does not exist or may not run is docker's 127 and 126"):
        done = docker("run", "--rm", *NONE, IMAGE, "nonesuch", check=False)
        equal(done.returncode, 127)
        contains(done.stderr, "nonesuch")
        equal(docker("run", "--rm", *NONE, IMAGE, "/dev/null", check=False).returncode, 126)
    with tap.test("user, capabilities, read-only root, tmpfs, volume, sysctl, limits and host name are as told"):
        shared = docker.dir / "shared"
        shared.mkdir()
        script = ("id -u; id -G; hostname; grep CapEff /proc/self/status | cut -f2; touch /x 2>/dev/null || echo ro;"
                  "touch /t/x && echo tmpfs; echo there >/v/file; ulimit -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start;"
                  "cat /proc/self/oom_score_adj")
        shared.chmod(0o777)
        equal(docker.out("run", "--rm", *NONE, "--user", "1000:1000", "--group-add", "2000", "--hostname", "boat",
                         "--cap-drop", "all", "--read-only", "--tmpfs", "/t", "-v", f"{shared}:/v", "--ulimit",
                         "nofile=100:200", "--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--oom-score-adj", "5",
                         IMAGE, "sh", "-c", script).split(),
              ["1000", "1000", "2000", "boat", "0" * 16, "ro", "tmpfs", "100", "7", "5"])
        equal((shared / "file").read_text(), "there\n")
    with tap.test("docker's seccomp profile holds, --privileged is without, --init is the first process"):
        refused = docker("run", "--rm", *NONE, IMAGE, "unshare", "-U", "true", check=False)
        contains(refused.stderr, "not permitted")
        equal(docker.out("run", "--rm", *NONE, "--privileged", IMAGE, "unshare", "-m", "echo", "free"), "free")
        contains(docker.out("run", "--rm", *NONE, "--init", IMAGE, "cat", "/proc/1/comm"), "init")


def life(docker, tap):
    box = docker.out("run", "-d", *NONE, "--name", "box", "-m", "32m", "--cpus", "0.5", "--pids-limit", "50", IMAGE,
                     "sh", "-c", SERVICE)
    with tap.test("the limits stand in the kernel"):
        equal((docker.memory(box), docker.cpu(box), docker.pids(box)), (32 << 20, 0.5, 50))
    with tap.test("update changes them"):
        docker("update", "--memory", "64m", "--memory-swap", "64m", "--cpus", "1.5", "--pids-limit", "60", "box")
        equal((docker.memory(box), docker.cpu(box), docker.pids(box)), (64 << 20, 1.5, 60))
    with tap.test("logs have both streams"):
        until("both lines", 20, lambda: "problem" in docker("logs", "box").stderr)
        equal(docker("logs", "box").stdout, "started\n")
    with tap.test("exec: output, user, environment, folder, exit codes"):
        equal(docker.out("exec", "-u", "app", "-e", "A=b", "-w", "/home", "box", "sh", "-c", "id -un; echo $A; pwd").split(),
              ["app", "b", "/home"])
        equal(docker("exec", "box", "sh", "-c", "exit 7", check=False).returncode, 7)
        equal(docker("exec", "box", "nonesuch", check=False).returncode, 126)
        equal(docker.out("exec", "-i", "box", "cat", stdin=None, input="in and out\n"), "in and out")
    with tap.test("exec -it and run -it have a terminal of the right size"):
        for words in (("exec", "-it", "box"), ("run", "-it", "--rm", *NONE, IMAGE)):
            code, shown = docker.terminal(*words, "sh", "-c", SIZE)
            equal((code, "/dev/pts/" in shown, "33 77" in shown), (0, True, True))
    with tap.test("what is typed at a terminal arrives, and its end is the shell's"):
        code, shown = docker.terminal("run", "-it", "--rm", *NONE, IMAGE, "sh", say=b"echo $((6 * 7))\nexit 5\n")
        equal(code, 5)
        contains(shown, "42")
    with tap.test("pause stops it, unpause goes on"):
        docker("pause", "box")
        equal((docker.state("box", "Status"), docker.frozen(box)), ("paused", True))
        docker("unpause", "box")
        equal((docker.state("box", "Status"), docker.frozen(box)), ("running", False))
    with tap.test("stats and top see the processes"):
        contains(docker.out("stats", "--no-stream", "--format", "{{.MemUsage}}", "box"), "64MiB")
        contains(docker.out("top", "box"), "sleep 0.05")
    with tap.test("stop sends the signal and has the code"):
        docker("stop", "-t", "60", "box")
        equal((docker.state("box", "Status"), docker.state("box", "ExitCode")), ("exited", "3"))
        contains(docker("logs", "box").stdout, "ended")
    with tap.test("it starts, restarts and is killed"):
        docker("start", "box")
        equal(docker.state("box", "Running"), "true")
        docker("restart", "-t", "0", "box")
        equal(docker.state("box", "Running"), "true")
        docker("kill", "box")
        until("it has ended", 20, lambda: docker.state("box", "Running") == "false")
        equal(docker.state("box", "ExitCode"), "137")
    with tap.test("rm -f leaves neither cgroup nor record"):
        docker("start", "box")
        docker("rm", "-f", "box")
        until("no cgroup is left", 20, lambda: not docker.cgroups())
        equal(docker.states(), [])


def ends(docker, tap):
    with tap.test("a container out of memory is killed and says so"):
        docker("run", "-d", *NONE, "--name", "hungry", "-m", "16m", IMAGE, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M",
               "count=1")
        until("it has ended", 60, lambda: docker.state("hungry", "Running") == "false")
        equal((docker.state("hungry", "OOMKilled"), docker.state("hungry", "ExitCode")), ("true", "137"))
    with tap.test("attach reaches a running container's streams"):
        docker("run", "-di", *NONE, "--name", "echo", IMAGE, "sh", "-c", "read line; echo \"got $line\"; read line")
        with subprocess.Popen([*docker.command, "attach", "--sig-proxy=false", "echo"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, text=True, env=docker.env) as attached:
            attached.stdin.write("a line\n")
            attached.stdin.flush()
            equal(attached.stdout.readline(), "got a line\n")
            docker("kill", "echo")
    with tap.test("with --restart a container that ends is started again"):
        docker("run", "-d", *NONE, "--name", "again", "--restart", "on-failure:2", IMAGE, "false")
        until("two restarts", 60, lambda: docker.out("inspect", "-f", "{{.RestartCount}}", "again") == "2")
    with tap.test("two containers share namespaces"):
        docker("run", "-d", *NONE, "--name", "first", "--ipc", "shareable", IMAGE, "sleep", "1000")
        equal(docker.out("run", "--rm", "--network", "container:first", "--pid", "container:first", "--ipc",
                         "container:first", IMAGE, "cat", "/proc/1/comm"), "sleep")
        docker("rm", "-f", "first")


def main():
    tap = Tap()
    lack = missing("dockerd", "/usr/bin/docker", "containerd")
    if lack:
        tap.skip("knarr-oci under docker", lack)
        tap.end()
    with contextlib.ExitStack() as stack:
        docker = stack.enter_context(Docker())
        basics(docker, tap)
        life(docker, tap)
        ends(docker, tap)
    tap.end()


if __name__ == "__main__":
    main()
