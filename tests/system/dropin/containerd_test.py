#!/usr/bin/env python3
"""knarr-oci as BinaryName of containerd's io.containerd.runc.v2: a private containerd of the distribution, driven by ctr."""
import json

from engine import IMAGE, SERVICE, Engine, Tap, contains, equal, missing, until


class Containerd(Engine):
    def start(self):
        config = self.dir / "config.toml"
        config.write_text(f'version = 2\nroot = "{self.dir}/root"\nstate = "{self.dir}/state"\n'
                          f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
                          f'[grpc]\naddress = "{self.dir}/socket"\n[ttrpc]\naddress = "{self.dir}/ttrpc"\n'
                          f'[plugins."io.containerd.internal.v1.opt"]\npath = "{self.dir}/opt"\n')
        self.command = ["ctr", "--address", self.dir / "socket"]
        self.snapshotter = {"overlay": "overlayfs", "vfs": "native"}[self.storage()]
        self.serve("containerd", "--config", config)
        self.answers("version")
        self("image", "import", "--snapshotter", self.snapshotter, self.archive)

    def stop(self):
        for name in self.out("container", "ls", "-q", check=False).split():
            self("task", "rm", "-f", name, check=False)
            self("container", "rm", name, check=False)
        super().stop()

    def runs(self, name, *words, options=(), **kw):
        return self(*self.run_words(name, *words, options=options), **kw)

    def run_words(self, name, *words, options=()):
        return ("run", "--snapshotter", self.snapshotter, "--runtime", "io.containerd.runc.v2", "--runc-binary", self.oci,
                "--runc-root", self.dir / "oci", "--cgroup", f"/{self.cgroup}/{name}", *options, IMAGE, name, *words)

    def status(self, name):
        for line in self.out("task", "ls").splitlines():
            words = line.split()
            if words[0] == name:
                return words[2]
        return None


def basics(ctr, tap):
    with tap.test("run gives the output and the exit code, and --rm leaves nothing"):
        equal(ctr.runs("one", "echo", "hello", options=["--rm"]).stdout, "hello\n")
        equal(ctr.runs("two", "sh", "-c", "exit 42", options=["--rm"], check=False).returncode, 42)
        equal((ctr.out("container", "ls", "-q"), ctr.cgroups(), ctr.states()), ("", [], []))
    with tap.test("a program that does not exist is an error that names it"):
        contains(ctr.runs("none", "nonesuch", options=["--rm"], check=False).stderr, "nonesuch")
    with tap.test("a terminal"):
        code, shown = ctr.terminal(*ctr.run_words("tty", "sh", "-c", "tty; exit 5", options=["--rm", "-t"]))
        equal(code, 5)
        contains(shown, "/dev/pts/")
    with tap.test("read-only root, mount and seccomp profile are as told"):
        shared = ctr.dir / "shared"
        shared.mkdir()
        shared.chmod(0o777)
        script = "touch /x 2>/dev/null || echo ro; echo there >/v/file; unshare -U true 2>/dev/null || echo refused"
        equal(ctr.runs("as", "sh", "-c", script, options=["--rm", "--read-only", "--seccomp", "--mount",
                                                         f"type=bind,src={shared},dst=/v,options=rbind:rw"]).stdout.split(),
              ["ro", "refused"])
        equal((shared / "file").read_text(), "there\n")


def life(ctr, tap):
    ctr.runs("box", "sh", "-c", SERVICE, options=["-d", "--memory-limit", str(32 << 20), "--cpus", "0.5", "--log-uri",
                                                  f"file://{ctr.dir}/box.log"])
    with tap.test("the limits stand in the kernel"):
        equal((ctr.memory("box"), ctr.cpu("box")), (32 << 20, 0.5))
    with tap.test("the log has both streams"):
        until("both lines", 20, lambda: "problem" in (ctr.dir / "box.log").read_text())
        contains((ctr.dir / "box.log").read_text(), "started")
    with tap.test("exec: output, exit code, terminal"):
        equal(ctr.out("task", "exec", "--exec-id", "e1", "--cwd", "/home", "box", "pwd"), "/home")
        equal(ctr("task", "exec", "--exec-id", "e2", "box", "sh", "-c", "exit 7", check=False).returncode, 7)
        code, shown = ctr.terminal("task", "exec", "-t", "--exec-id", "e3", "box", "sh", "-c", "tty; exit 6")
        equal((code, "/dev/pts/" in shown), (6, True))
        contains(ctr("task", "exec", "--exec-id", "e4", "box", "nonesuch", check=False).stderr, "nonesuch")
    with tap.test("pause stops it, resume goes on"):
        ctr("task", "pause", "box")
        equal((ctr.status("box"), ctr.frozen("box")), ("PAUSED", True))
        ctr("task", "resume", "box")
        equal((ctr.status("box"), ctr.frozen("box")), ("RUNNING", False))
    with tap.test("metrics and ps see the processes"):
        shown = json.loads(ctr.out("task", "metrics", "--format", "json", "box"))
        memory = shown["memory"]
        limit = memory["usage"]["limit"] if "usage" in memory and isinstance(memory["usage"], dict) else memory["usage_limit"]
        equal(int(limit), 32 << 20)
        if len(ctr.out("task", "ps", "box").splitlines()) < 2:
            raise AssertionError("no process")
    with tap.test("kill with a signal ends it as the program wants, delete gives the code"):
        ctr("task", "kill", "-s", "SIGTERM", "box")
        until("it has ended", 30, lambda: ctr.status("box") == "STOPPED")
        contains((ctr.dir / "box.log").read_text(), "ended")
        contains(ctr("task", "rm", "box").stderr, "code 3")
    with tap.test("the same container starts again, kill --all and delete leave nothing"):
        ctr("task", "start", "-d", "box")
        equal(ctr.status("box"), "RUNNING")
        ctr("task", "kill", "-a", "-s", "SIGKILL", "box")
        until("it has ended", 30, lambda: ctr.status("box") == "STOPPED")
        contains(ctr("task", "rm", "box").stderr, "code 137")
        ctr("container", "rm", "box")
        equal((ctr.cgroups(), ctr.states()), ([], []))
    with tap.test("a container out of memory is killed"):
        done = ctr.runs("hungry", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1", check=False,
                        options=["--rm", "--memory-limit", str(16 << 20)])
        equal(done.returncode, 137)


def main():
    tap = Tap()
    lack = missing("containerd", "ctr", "containerd-shim-runc-v2")
    if lack:
        tap.skip("knarr-oci under containerd", lack)
        tap.end()
    with Containerd() as ctr:
        basics(ctr, tap)
        life(ctr, tap)
    tap.end()


if __name__ == "__main__":
    main()
