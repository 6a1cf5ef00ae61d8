#!/usr/bin/env python3
"""knarr-oci's command line beside runc's: the same bundle, the same verbs, the same exit codes and texts; and what
runc 1.1 does not have yet, by itself."""
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
import unittest

from fields_test import until
from oci_test import BUILD, NS, OCI, V2, Bundle, controller

RUNC = shutil.which("runc")


class Verbs(Bundle):
    def quiet(self, *args, **kw):
        """For what leaves a process behind that would keep our pipes open."""
        with open(self.top + "/err", "w") as err:
            r = subprocess.run([OCI, "--root", self.state, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                               timeout=60, **kw)
        r.stderr = open(self.top + "/err").read()
        return r

    def status(self):
        return json.loads(self.oci("state", self.id).stdout)["status"]

    def pid(self):
        return json.loads(self.oci("state", self.id).stdout)["pid"]

    # --- beside runc -----------------------------------------------------------------------------

    def life(self, runtime):
        """What each verb prints and returns, without what differs from container to container."""
        self.config["process"]["args"] = ["sleep", "1000"]
        self.config["annotations"] = {"a": "b"}
        self.write()
        state = f"{self.top}/state-{os.path.basename(runtime)}"
        os.makedirs(state)
        told = {}

        def verb(name, *args):
            r = subprocess.run([runtime, "--root", state, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
            told[name] = (r.returncode, r.stdout)
            return r

        def detached(name, *args):
            r = subprocess.run([runtime, "--root", state, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, timeout=60)
            told[name] = r.returncode

        detached("create", "create", "-b", self.top, "--pid-file", self.top + "/pid", self.id)
        try:
            pid = open(self.top + "/pid").read()
            verb("state of created", "state", self.id)
            verb("list", "list")
            verb("list json", "list", "-f", "json")
            verb("list quiet", "list", "-q")
            verb("list bad", "list", "-f", "x")
            verb("create twice", "create", "-b", self.top, self.id)
            verb("start", "start", self.id)
            verb("start twice", "start", self.id)
            verb("delete running", "delete", self.id)
            verb("ps json", "ps", "-f", "json", self.id)
            verb("ps", "ps", self.id, "-o", "pid,comm")
            verb("ps bad", "ps", "-f", "x", self.id)
            verb("exec", "exec", "--cwd", "/bin", "-e", "A=b", "-u", "7:8", self.id, "sh", "-c", "pwd; echo $A $HOME; id -u; id -g; exit 3")
            verb("exec gid stays", "exec", "-u", "7", self.id, "sh", "-c", "id -g")
            verb("exec cap", "exec", "--cap", "CAP_SYS_TIME", self.id, "grep", "-E", "Cap(Eff|Bnd)", "/proc/self/status")
            verb("exec nothing", "exec", self.id)
            verb("exec not there", "exec", self.id, "nosuch")
            verb("exec signal", "exec", self.id, "sh", "-c", "kill -9 $$")
            verb("events", "events", "--stats", self.id)
            verb("events interval", "events", "--interval", "0s", self.id)
            verb("update bad", "update", "--cpu-share", "abc", self.id)
            verb("pause", "pause", self.id)
            verb("state of paused", "state", self.id)
            verb("pause twice", "pause", self.id)
            verb("exec paused", "exec", self.id, "true")
            verb("resume", "resume", self.id)
            verb("resume twice", "resume", self.id)
            verb("kill bad", "kill", self.id, "NOSIG")
            verb("kill 0", "kill", self.id, "0")
            verb("kill", "kill", self.id, "SIGKILL")
            until("stopped", lambda: '"stopped"' in verb("state of stopped", "state", self.id).stdout)
            verb("kill stopped", "kill", self.id, "TERM")
            verb("kill --all stopped", "kill", "--all", self.id, "KILL")
            verb("start stopped", "start", self.id)
            verb("exec stopped", "exec", self.id, "true")
            verb("ps stopped", "ps", "-f", "json", self.id)
            verb("delete", "delete", self.id)
            for name in ("state", "start", "pause", "resume", "delete", "ps", "events", "update", "kill"):
                verb(f"{name} of none", name, self.id)
                verb(f"{name} without a name", name)
            verb("delete -f of none", "delete", "--force", self.id)
            verb("exec of none", "exec", self.id, "true")
            verb("bad id", "state", "a/b")
            verb("bad option", "state", "--nosuch", self.id)
            verb("bad global", "--nosuch", "list")
            verb("bad bundle", "run", "-b", self.top + "/nosuch", self.id)
            detached("run exit", "run", "-b", self.top, "--nosuch", self.id)
            log = subprocess.run([runtime, "--root", state, "--log", self.top + "/log", "--log-format", "json", "state", self.id],
                                 capture_output=True, text=True)
            line = json.loads(open(self.top + "/log").read())
            told["json log"] = log.returncode, line["level"], line["msg"].split(":")[0], sorted(set(line) & {"level", "msg", "time"})
            os.unlink(self.top + "/log")
            subprocess.run([runtime, "--root", state, "--log", self.top + "/log", "state", self.id], capture_output=True)
            told["text log"] = open(self.top + "/log").read().split('"')[2], open(self.top + "/log").read().count("\n")
            os.unlink(self.top + "/log")
        finally:
            subprocess.run([runtime, "--root", state, "delete", "--force", self.id], capture_output=True)
        return told, pid

    @unittest.skipUnless(RUNC, "runc is not installed")
    def test_each_verb_as_runc(self):
        (theirs, their_pid), (ours, our_pid) = self.life(RUNC), self.life(OCI)
        for name, (code, out) in ((n, t) for n, t in theirs.items() if isinstance(t[0] if isinstance(t, tuple) else t, int) and isinstance(t, tuple) and len(t) == 2):
            our_code, our_out = ours[name]
            self.assertEqual(our_code, code, f"{name}: {our_out}")
            if "state of" in name and code == 0:
                a, b = json.loads(out), json.loads(our_out)
                self.assertEqual(list(a), list(b), name)
                for k in ("id", "status", "bundle", "rootfs", "annotations", "owner"):
                    self.assertEqual(a[k], b[k], name)
                self.assertEqual(out.count("\n"), our_out.count("\n"), name)
                self.assertEqual((a["pid"] == 0, a["created"][-1]), (b["pid"] == 0, b["created"][-1]))
            elif name == "list json":
                self.assertEqual(list(json.loads(out)[0]), list(json.loads(our_out)[0]))
                self.assertEqual(json.loads(out)[0]["owner"], json.loads(our_out)[0]["owner"])
            elif name == "list":
                self.assertEqual([l.split()[0] for l in out.splitlines()], [l.split()[0] for l in our_out.splitlines()])
                self.assertEqual([out.index(w) for w in ("PID", "STATUS", "BUNDLE", "CREATED")],
                                 [our_out.index(w) for w in ("PID", "STATUS", "BUNDLE", "CREATED")])
            elif name == "events":
                a, b = json.loads(out), json.loads(our_out)
                self.assertEqual(shape(a), shape(b))
            elif code == 0 or name == "exec":
                self.assertEqual(our_out.replace(our_pid, "PID").split(), out.replace(their_pid, "PID").split(), name)
        for name in ("create", "run exit", "json log", "text log"):
            self.assertEqual(ours[name], theirs[name], name)

    # --- by itself -------------------------------------------------------------------------------

    def test_every_command_has_its_help(self):
        for name in ("create start run exec kill delete state list ps events pause resume update spec features").split():
            r = self.oci(name, "--help")
            self.assertEqual(r.returncode, 0)
            self.assertIn(f"USAGE:\n   knarr-oci {name} ", r.stdout)
        self.assertEqual(self.oci("--version").stdout.split("\n")[1], "spec: 1.3.0")
        for wrong in (["--rootless", "maybe", "list"], ["--cgroup-manager", "x", "list"], ["--log-format", "x", "list"], ["nosuch"]):
            self.assertNotEqual(self.oci(*wrong).returncode, 0)

    def test_features_are_true(self):
        f = json.loads(self.oci("features").stdout)
        self.assertIn("poststart", f["hooks"])
        self.assertIn("SCMP_ACT_NOTIFY", f["linux"]["seccomp"]["actions"])
        # what is listed runs; what is not is refused
        for ns in f["linux"]["namespaces"]:
            self.assertIn(ns, ("cgroup", "ipc", "mount", "network", "pid", "uts", "user", "time"))
        for action in f["linux"]["seccomp"]["actions"]:
            self.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "flags": f["linux"]["seccomp"]["supportedFlags"],
                                               "architectures": f["linux"]["seccomp"]["archs"],
                                               "syscalls": [{"names": ["swapoff"], "action": action}]}
            self.run_it("true")

    def test_spec_runs(self):
        os.makedirs(self.top + "/b")
        self.assertEqual(self.oci("spec", "-b", self.top + "/b").returncode, 0)
        self.assertEqual(self.oci("spec", "-b", self.top + "/b").returncode, 1)
        self.config = json.load(open(self.top + "/b/config.json"))
        self.config["process"]["terminal"] = False
        self.assertEqual(self.run_it("echo", "hi"), "hi\n")
        os.unlink(self.top + "/b/config.json")
        self.assertEqual(self.oci("spec", "--rootless", "-b", self.top + "/b").returncode, 0)
        rootless = json.load(open(self.top + "/b/config.json"))
        self.assertIn({"type": "user"}, rootless["linux"]["namespaces"])
        self.assertEqual(rootless["linux"]["uidMappings"], [{"containerID": 0, "hostID": 0, "size": 1}])

    def test_exec_options(self):
        self.start()
        sh = lambda *args, **kw: self.oci("exec", *args, **kw)
        self.assertEqual(sh("-g", "77", "--additional-gids", "78", self.id, "id", "-G").stdout.split(), ["0", "77", "78"])
        self.assertEqual(sh("--no-new-privs", self.id, "grep", "NoNewPrivs", "/proc/self/status").stdout.split()[1], "1")
        self.assertIn("CAP_NO", sh("--cap", "CAP_NO", self.id, "true").stderr)
        self.assertIn("fd 3", sh("--preserve-fds", "1", self.id, "true").stderr)
        r, w = os.pipe()
        fd = os.dup2(r, 3) if r != 3 else r
        self.assertIn("3", sh("--preserve-fds", "1", self.id, "ls", "/proc/self/fd", pass_fds=(3,)).stdout)
        os.close(w)
        for f in {r, fd}:
            os.close(f)
        self.assertEqual(self.quiet("exec", "-d", "--pid-file", self.top + "/p", self.id, "sleep", "1000").returncode, 0)
        self.assertIn("sleep", open(f"/proc/{open(self.top + '/p').read()}/cmdline").read())
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(self.top + "/pidfd")
            s.listen(1)
            self.assertEqual(self.quiet("exec", "-d", "--pidfd-socket", self.top + "/pidfd", self.id, "sleep", "1000").returncode, 0)
            c, _ = s.accept()
            _, fds, _, _ = socket.recv_fds(c, 100, 1)
            signal.pidfd_send_signal(fds[0], 0)
            os.close(fds[0])
            c.close()

    def test_exec_into_a_cgroup_below(self):
        self.start()
        where = f"/sys/fs/cgroup/{'' if V2 else 'pids/'}{self.id}/below"
        os.mkdir(where)
        try:
            r = self.oci("exec", "--cgroup", "below" if V2 else "pids:below", self.id, "cat", "/proc/self/cgroup")
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn("/below", r.stdout)
            for wrong in ("nosuch:below", "../../x" if V2 else "pids:nosuch", ":below"):
                r = self.oci("exec", "--cgroup", wrong, self.id, "true")
                self.assertEqual(r.returncode, 255, wrong)
        finally:
            until("the cgroup is empty", lambda: not open(where + "/cgroup.procs").read())
            os.rmdir(where)

    def test_exec_waits_in_a_paused_container(self):
        self.start()
        self.assertEqual(self.oci("pause", self.id).returncode, 0)
        p = subprocess.Popen([OCI, "--root", self.state, "exec", "--ignore-paused", self.id, "echo", "thawed"], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
        time.sleep(0.2)
        self.assertIsNone(p.poll())
        self.assertEqual(self.oci("resume", self.id).returncode, 0)
        self.assertEqual(p.communicate(timeout=30)[0], "thawed\n")

    def test_events_until_the_end(self):
        self.start()
        p = subprocess.Popen([OCI, "--root", self.state, "events", "--interval", "50ms", self.id], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
        lines = [json.loads(p.stdout.readline()) for _ in range(3)]
        self.assertEqual({(l["type"], l["id"]) for l in lines}, {("stats", self.id)})
        self.assertGreater(lines[0]["data"]["memory"]["usage"]["usage"], 0)
        self.oci("kill", self.id, "KILL")
        p.communicate(timeout=30)
        self.assertEqual(p.returncode, 0)
        self.assertIn("not running", self.oci("events", self.id).stderr)

    @unittest.skipUnless(controller("memory"), "this kernel has no memory controller")
    def test_events_tell_when_memory_ran_out(self):
        self.config["linux"]["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}
        self.start("sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; dd if=/dev/zero of=/dev/null bs=64M count=1 2>/said; echo $? >>/said; sleep 1000")
        p = subprocess.Popen([OCI, "--root", self.state, "events", "--interval", "1h", self.id], stdout=subprocess.PIPE,
                             stdin=subprocess.DEVNULL, text=True)
        time.sleep(0.3)
        open(self.root + "/go", "w").close()
        try:
            ready, _, _ = select.select([p.stdout], [], [], 30)
            self.assertTrue(ready, open(self.root + "/said").read() + self.oci("events", "--stats", self.id).stdout)
            self.assertEqual(json.loads(p.stdout.readline()), {"type": "oom", "id": self.id})
        finally:
            p.kill()
            p.communicate()

    def test_kill_reaches_all_without_a_pid_namespace(self):
        self.config["linux"]["namespaces"] = [n for n in NS if n["type"] != "pid"]
        self.start("sh", "-c", "sleep 1000 & sleep 1000 & wait")
        pids = until("three processes", lambda: (l := json.loads(self.oci("ps", "-f", "json", self.id).stdout)) and len(l) == 3 and l)
        self.assertEqual(self.oci("kill", self.id, "KILL").returncode, 0)
        until("all are gone", lambda: not any(alive(p) for p in pids))

    def test_run_keeps_and_deletes(self):
        self.write()
        self.assertEqual(self.oci("run", "--keep", "-b", self.top, self.id).returncode, 0)
        self.assertEqual(self.status(), "stopped")
        self.assertEqual(self.oci("delete", self.id).returncode, 0)
        self.assertEqual(self.oci("run", "--no-subreaper", "--no-new-keyring", "-b", self.top, self.id).returncode, 0)
        self.assertIn("does not exist", self.oci("state", self.id).stderr)

    def test_a_half_made_container_is_deleted(self):
        os.makedirs(f"{self.state}/{self.id}")
        self.assertEqual(self.oci("delete", "--force", self.id).returncode, 0)
        self.assertFalse(os.path.exists(f"{self.state}/{self.id}"))

    def test_without_a_cgroup(self):
        self.config["process"]["args"] = ["sleep", "1000"]
        self.write()
        self.assertEqual(self.quiet("--cgroup-manager=disabled", "run", "-d", "-b", self.top, self.id).returncode, 0)
        own = open("/proc/self/cgroup").read()
        self.assertEqual(open(f"/proc/{self.pid()}/cgroup").read(), own)
        for verb in (["ps"], ["pause"], ["events", "--stats"], ["update", "--pids-limit", "5"]):
            r = self.oci(*verb, self.id)
            self.assertEqual(r.returncode, 1)
            self.assertIn("without a cgroup", r.stderr)
        self.assertEqual(self.oci("exec", self.id, "echo", "in").stdout, "in\n")
        self.assertEqual(self.oci("delete", "-f", self.id).returncode, 0)

    def test_listen_fds_of_a_service(self):
        self.config["process"]["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; readlink /proc/self/fd/3"]
        self.write()
        r, w = os.pipe()
        script = f'import os; os.dup2({r}, 3); os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid())); ' \
                 f'os.execv("{OCI}", ["knarr-oci", "--root", "{self.state}", "run", "-b", "{self.top}", "{self.id}"])'
        out = subprocess.run(["python3", "-c", script], pass_fds=(r, 3) if r != 3 else (3,), capture_output=True, text=True,
                             stdin=subprocess.DEVNULL, timeout=60, close_fds=False)
        os.close(r)
        os.close(w)
        self.assertEqual(out.stdout.split()[:2], ["1", "1"], out.stderr)
        self.assertIn("pipe:", out.stdout)

    def test_crun_annotations(self):
        log = self.top + "/hooklog"
        self.config["annotations"] = {"run.oci.hooks.stdout": log, "run.oci.hooks.stderr": log}
        self.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo out; echo err >&2"]}]}
        self.run_it("true")
        self.assertEqual(open(log).read(), "out\nerr\n")
        self.config["annotations"] = {"run.oci.keep_original_groups": "1"}
        self.config["process"]["user"]["additionalGids"] = [5]
        self.assertNotIn("5", self.sh("id -G", extra_groups=[77]).split())
        self.assertIn("77", self.sh("id -G", extra_groups=[77]).split())
        self.config["annotations"] = {"run.oci.handler": "wasm"}
        self.assertIn("run.oci.handler", self.run_it(want=1))
        self.config["annotations"] = {"run.oci.seccomp_fail_unknown_syscall": "1"}
        self.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["nosuchcall"], "action": "SCMP_ACT_ERRNO"}]}
        self.assertIn("nosuchcall", self.run_it(want=1))

    def test_errors_of_the_document_name_line_and_column(self):
        def refused(change, *words):
            config = json.loads(json.dumps(self.config))
            change(config)
            with open(self.top + "/config.json", "w") as f:
                json.dump(config, f, indent=1)
            r = self.oci("run", "-b", self.top, self.id)
            self.assertEqual(r.returncode, 1)
            for word in ("line ", " column ", *words):
                self.assertIn(word, r.stderr)
            at = int(r.stderr.split("line ")[1].split()[0])
            return open(self.top + "/config.json").read().splitlines()[at - 1]

        self.assertIn('"nice"', refused(lambda c: c["process"].update(scheduler={"policy": "SCHED_OTHER", "nice": 99}), "process.scheduler.nice"))
        self.assertIn("thing", refused(lambda c: c["linux"]["namespaces"].append({"type": "thing"}), "linux.namespaces"))
        self.assertIn("SCMP_ACT_X", refused(lambda c: c["linux"].update(seccomp={"defaultAction": "SCMP_ACT_X"}), "defaultAction"))
        self.assertIn('"cwd"', refused(lambda c: c["process"].update(cwd="relative"), "process.cwd"))
        self.assertIn('"soft"', refused(lambda c: c["process"].update(rlimits=[{"type": "RLIMIT_CORE", "hard": 1, "soft": "x"}]), "soft"))

    # --- hooks -----------------------------------------------------------------------------------

    def test_all_six_hooks(self):
        log = self.top + "/hooks"
        hook = lambda name: [{"path": "/bin/sh", "args": ["sh", "-c", f"(echo -n '{name} '; cat; echo) >> {log}"], "env": ["PATH=/bin"]}]
        names = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
        self.config["hooks"] = {k: hook(k) for k in names}
        self.config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /started"]}]
        self.config["annotations"] = {"k": "v"}
        told = lambda: [(l.split()[0], json.loads(l.split(" ", 1)[1])) for l in open(log).read().splitlines()]
        self.start()
        self.assertEqual([n for n, _ in told()], list(names[:4]))
        pid = self.pid()
        for name, state in told():
            self.assertEqual((state["id"], state["pid"], state["bundle"], state["annotations"], state["status"]),
                             (self.id, pid, self.top, {"k": "v"}, "running" if name == "poststart" else "creating"))
        self.assertEqual(json.load(open(self.root + "/started"))["status"], "created")
        self.assertEqual(self.oci("delete", "-f", self.id).returncode, 0)
        name, state = told()[-1]
        self.assertEqual((name, state["status"], state.get("pid", 0)), ("poststop", "stopped", 0))
        os.unlink(log)
        self.run_it("true")
        self.assertEqual([n for n, _ in told()], list(names))

    def test_a_failed_hook_ends_what_it_belongs_to(self):
        bad = [{"path": "/bin/sh", "args": ["sh", "-c", "echo the reason >&2; exit 3"]}]
        for name in ("prestart", "createRuntime", "createContainer"):
            self.config["hooks"] = {name: bad}
            text = self.run_it("sleep", "1000", want=1)
            self.assertIn("the reason", text)
            self.assertIn("does not exist", self.oci("state", self.id).stderr)
        self.config["hooks"] = {"poststart": bad}
        self.assertIn("the reason", self.run_it("sleep", "1000", want=1))
        self.write()
        self.assertEqual(self.quiet("create", "-b", self.top, self.id).returncode, 0)
        r = self.oci("start", self.id)
        self.assertEqual(r.returncode, 1)
        self.assertIn("the reason", r.stderr)
        until("the container is killed", lambda: self.status() == "stopped")
        self.assertEqual(self.oci("delete", self.id).returncode, 0)
        log = self.top + "/second"
        self.config["hooks"] = {"poststop": bad + [{"path": "/bin/sh", "args": ["sh", "-c", f"echo ran > {log}"]}]}
        self.run_it("true")
        self.assertEqual(open(log).read(), "ran\n")

    def test_a_hook_has_its_time(self):
        self.config["hooks"] = {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}]}
        self.assertIn("timeout of 1 s", self.run_it("true", want=1))
        for wrong, word in ((0, "hooks.timeout"), (-1, "hooks.timeout")):
            self.config["hooks"]["createRuntime"][0]["timeout"] = wrong
            self.assertIn(word, self.run_it("true", want=1))
        self.config["hooks"] = {"createRuntime": [{"path": "relative"}]}
        self.assertIn("hooks.path", self.run_it("true", want=1))


def shape(value):
    """The keys of objects, down to the counters of the kernel's own tables."""
    if isinstance(value, dict):
        value = {k: v for k, v in value.items() if v != {"limit": 0, "failcnt": 0}}  # which older ones print
        return {k: shape(v) for k, v in sorted(value.items()) if k not in ("throttling", "blkio", "hugetlb", "raw", "percpu", "max", "psi", "cache", "total")}
    return type(value).__name__


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


if __name__ == "__main__":
    unittest.main(verbosity=2)
