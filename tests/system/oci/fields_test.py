#!/usr/bin/env python3
"""Fields of config.json, one test each: knarr-oci runs the bundle, and what it made is looked at from
inside the container and from the kernel. Wrong values are refused with a sentence that names the field."""
import contextlib
import ctypes
import fcntl
import json
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
import unittest

from oci_test import BUILD, NS, OCI, V2, Bundle, controller

HOSTS_CPUS = sorted(os.sched_getaffinity(0))


def until(what, check, seconds=30):
    end = time.monotonic() + seconds
    while not (found := check()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return found


class Fields(Bundle):
    def init_pid(self):
        return json.loads(self.oci("state", self.id).stdout)["pid"]

    def stop(self):
        self.assertEqual(self.oci("delete", "--force", self.id).returncode, 0)

    def refused(self, *words):
        """The bundle as it is now cannot run; the error has these words."""
        text = self.run_it("true", want=1)
        for word in words:
            self.assertIn(word, text)

    # --- process: scheduling ---------------------------------------------------------------------

    def test_scheduler(self):
        p = self.config["process"]
        for policy, number, more in (("SCHED_OTHER", 0, {"nice": 7}), ("SCHED_BATCH", 3, {"nice": 3}), ("SCHED_IDLE", 5, {})):
            p["scheduler"] = {"policy": policy, **more}
            self.start()
            pid = self.init_pid()
            self.assertEqual(os.sched_getscheduler(pid), number, policy)
            self.assertEqual(os.getpriority(os.PRIO_PROCESS, pid), more.get("nice", os.getpriority(os.PRIO_PROCESS, 0)), policy)
            self.stop()

    def test_realtime_schedulers_are_the_kernels_own_word(self):
        p = self.config["process"]
        for policy, number, more in (("SCHED_FIFO", os.SCHED_FIFO, {"priority": 5}), ("SCHED_RR", os.SCHED_RR, {"priority": 9}),
                                     ("SCHED_DEADLINE", 6, {"runtime": 10**6, "deadline": 10**7, "period": 10**7})):
            p["scheduler"] = {"policy": policy, "flags": ["SCHED_FLAG_RESET_ON_FORK"], **more}
            self.config["process"]["args"] = ["sleep", "1000"]
            self.write()
            r = subprocess.run([OCI, "--root", self.state, "run", "-d", "-b", self.top, self.id], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=open(self.top + "/err", "w"), timeout=60)
            if r.returncode:  # v1: a group without realtime runtime; a kernel without it; no CAP_SYS_NICE
                self.assertIn(f"process.scheduler {policy}", open(self.top + "/err").read())
                continue
            self.assertEqual(os.sched_getscheduler(self.init_pid()) & ~os.SCHED_RESET_ON_FORK, number)
            self.stop()

    def test_wrong_schedulers_are_refused(self):
        p = self.config["process"]
        for wrong, word in (({"policy": "SCHED_NO"}, "scheduler.policy"), ({"policy": "SCHED_OTHER", "nice": 20}, "scheduler.nice"),
                            ({"policy": "SCHED_OTHER", "priority": 1}, "scheduler.priority"),
                            ({"policy": "SCHED_FIFO", "priority": 100}, "scheduler.priority"),
                            ({"policy": "SCHED_OTHER", "flags": ["SCHED_FLAG_NO"]}, "scheduler.flags"),
                            ({"policy": "SCHED_BATCH", "runtime": 5}, "SCHED_DEADLINE"),
                            ({"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 4, "period": 9}, "runtime <= deadline")):
            p["scheduler"] = wrong
            self.refused("process.scheduler", word)

    def test_io_priority(self):
        get = {"x86_64": 252, "aarch64": 31}[platform.machine()]
        for name, cls, level in (("IOPRIO_CLASS_BE", 2, 6), ("IOPRIO_CLASS_IDLE", 3, 0)):
            self.config["process"]["ioPriority"] = {"class": name, "priority": level}
            self.start()
            self.assertEqual(ctypes.CDLL(None).syscall(get, 1, self.init_pid()), cls << 13 | level)
            self.stop()
        for wrong, word in (({"class": "IOPRIO_CLASS_NO", "priority": 1}, "ioPriority.class"),
                            ({"class": "IOPRIO_CLASS_BE", "priority": 8}, "ioPriority.priority")):
            self.config["process"]["ioPriority"] = wrong
            self.refused("process." + word)

    def test_oom_score(self):
        self.config["process"]["oomScoreAdj"] = 500
        self.start()
        self.assertEqual(open(f"/proc/{self.init_pid()}/oom_score_adj").read(), "500\n")
        self.assertEqual(self.oci("exec", self.id, "cat", "/proc/self/oom_score_adj").stdout, "500\n")
        self.stop()
        for wrong in (1001, -1001):
            self.config["process"]["oomScoreAdj"] = wrong
            self.refused("process.oomScoreAdj", "line ")

    def test_affinity_of_an_exec(self):
        self.start()
        process = {**self.config["process"], "args": ["grep", "Cpus_allowed_list", "/proc/self/status"]}
        last = HOSTS_CPUS[-1]

        def run(affinity):
            with open(self.top + "/process.json", "w") as f:
                json.dump({**process, "execCPUAffinity": affinity}, f)
            return self.oci("exec", "--process", self.top + "/process.json", self.id)

        self.assertEqual(run({"initial": str(HOSTS_CPUS[0]), "final": str(last)}).stdout.split()[-1:], [str(last)])
        self.assertEqual(run({"initial": "0", "final": f"0-{last}"}).returncode, 0)
        for wrong, word in (({"initial": "x"}, "initial"), ({"final": "3-1"}, "final"), ({"final": "9999"}, "final"),
                            ({"final": "8000"}, "final")):
            r = run(wrong)
            self.assertEqual(r.returncode, 255, wrong)
            self.assertIn(f"process.execCPUAffinity.{word}", r.stderr)

    # --- linux: personality, memory policy -------------------------------------------------------

    def test_personality(self):
        self.config["linux"]["personality"] = {"domain": "LINUX32"}
        self.start()
        self.assertEqual(int(open(f"/proc/{self.init_pid()}/personality").read(), 16), 8)
        self.stop()
        self.config["linux"]["personality"] = {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE", "UNAME26"]}
        self.start()
        self.assertEqual(int(open(f"/proc/{self.init_pid()}/personality").read(), 16), 0x0040000 | 0x0020000)
        self.assertEqual(self.oci("exec", self.id, "cat", "/proc/self/personality").stdout.strip(), "00060000")
        self.stop()
        for wrong, word in (({"domain": "BSD"}, "domain"), ({"domain": "LINUX", "flags": ["NO_SUCH"]}, "flags")):
            self.config["linux"]["personality"] = wrong
            self.refused(f"linux.personality.{word}")

    def test_memory_policy(self):
        if not os.path.exists("/proc/self/numa_maps"):
            self.skipTest("this kernel has no memory policies (CONFIG_NUMA)")
        for mode, more, seen in (("MPOL_BIND", {"nodes": "0"}, "bind:0"), ("MPOL_PREFERRED", {"nodes": "0"}, "prefer:0"),
                                 ("MPOL_INTERLEAVE", {"nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "interleave=static:0"),
                                 ("MPOL_LOCAL", {}, "local"), ("MPOL_DEFAULT", {}, "default")):
            self.config["linux"]["memoryPolicy"] = {"mode": mode, **more}
            self.start()
            self.assertIn(f" {seen} ", open(f"/proc/{self.init_pid()}/numa_maps").read(), mode)
            self.assertIn(f" {seen} ", self.oci("exec", self.id, "cat", "/proc/self/numa_maps").stdout, mode)
            self.stop()
        for wrong, word in (({"mode": "MPOL_NO"}, "mode"), ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["NO"]}, "flags"),
                            ({"mode": "MPOL_BIND", "nodes": "zero"}, "nodes"), ({"mode": "MPOL_BIND"}, "linux.memoryPolicy"),
                            ({"mode": "MPOL_BIND", "nodes": "1000"}, "linux.memoryPolicy")):
            self.config["linux"]["memoryPolicy"] = wrong
            self.refused("linux.memoryPolicy", word)

    # --- linux: seccomp --------------------------------------------------------------------------

    def seccomp(self, *rules, default="SCMP_ACT_ALLOW", **more):
        self.config["linux"]["seccomp"] = {"defaultAction": default, "syscalls": list(rules), **more}

    def test_seccomp_actions(self):
        rule = lambda action, **more: {"names": ["mkdir", "mkdirat"], "action": action, **more}
        for action, seen in (("SCMP_ACT_KILL_PROCESS", "159"), ("SCMP_ACT_KILL", "159"), ("SCMP_ACT_KILL_THREAD", "159"),
                             ("SCMP_ACT_TRAP", "159"), ("SCMP_ACT_LOG", "0"), ("SCMP_ACT_ALLOW", "0"),
                             ("SCMP_ACT_TRACE", "1"), ("SCMP_ACT_ERRNO", "1")):
            self.seccomp(rule(action), default="SCMP_ACT_ALLOW" if action != "SCMP_ACT_ALLOW" else "SCMP_ACT_LOG")
            self.assertEqual(self.sh("sh -c 'mkdir -p /x; exit $?' >/dev/null 2>&1; echo $?").strip(), seen, action)
        self.seccomp(rule("SCMP_ACT_ERRNO", errnoRet=122))
        self.assertIn("quota", self.sh("mkdir /x 2>&1; true").lower())
        self.seccomp(rule("SCMP_ACT_NO"))
        self.refused("linux.seccomp.syscalls.action", "SCMP_ACT_NO")
        self.seccomp(rule("SCMP_ACT_KILL", errnoRet=5))
        self.refused("takes no errnoRet")
        self.seccomp(default="SCMP_ACT_NO")
        self.refused("linux.seccomp.defaultAction")

    def test_seccomp_flags_and_architectures(self):
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
        for nnp in (True, False):
            self.config["process"]["noNewPrivileges"] = nnp
            for flags in ([], ["SECCOMP_FILTER_FLAG_TSYNC"], ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"],
                          ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]):
                self.seccomp(rule, flags=flags, architectures=["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32",
                                                               "SCMP_ARCH_MIPS", "SCMP_ARCH_LOONGARCH64"])
                self.assertEqual(self.sh("grep Seccomp: /proc/self/status; mkdir /x 2>/dev/null; echo $?").split(),
                                 ["Seccomp:", "2", "1"])
        self.seccomp(rule, flags=["SECCOMP_FILTER_FLAG_NO"])
        self.refused("linux.seccomp.flags")
        self.seccomp(rule, architectures=["SCMP_ARCH_NO"])
        self.refused("linux.seccomp.architectures")

    def test_seccomp_rules_by_argument(self):
        # chmod's mode is argument 1, fchmodat's 2: the modes 0700 and 0640 are refused, each by a rule of its own
        both = lambda index: {"names": ["chmod" if index == 1 else "fchmodat"], "action": "SCMP_ACT_ERRNO", "args": [
            {"index": index, "value": 0o700, "op": "SCMP_CMP_EQ"}, {"index": index, "value": 0o640, "op": "SCMP_CMP_EQ"}]}
        self.seccomp(both(1), both(2))
        script = "touch /f; for m in 700 640 600; do chmod $m /f 2>/dev/null; echo $?; done"
        self.assertEqual(self.sh(script).split(), ["1", "1", "0"])
        for op, value, two, seen in (("SCMP_CMP_GE", 0o640, 0, "1 1 0"), ("SCMP_CMP_LT", 0o640, 0, "0 0 1"),
                                     ("SCMP_CMP_MASKED_EQ", 0o700, 0o700, "1 0 0"), ("SCMP_CMP_NE", 0o700, 0, "0 1 1")):
            self.seccomp(*({"names": [name], "action": "SCMP_ACT_ERRNO", "args": [
                {"index": index, "value": value, "valueTwo": two, "op": op}]} for name, index in (("chmod", 1), ("fchmodat", 2))))
            self.assertEqual(self.sh(script).split(), seen.split(), op)
        self.seccomp({"names": ["chmod"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 1, "op": "SCMP_CMP_NO"}]})
        self.refused("linux.seccomp.syscalls.args.op")

    def agent(self, answers):
        """An agent at self.top/agent: answers each notification; returns what it was told."""
        s = socket.socket(socket.AF_UNIX)
        s.bind(self.top + "/agent")
        s.listen(5)
        self.addCleanup(s.close)
        told = []

        def serve():
            while True:
                try:
                    c, _ = s.accept()
                except OSError:
                    return
                text, fds, _, _ = socket.recv_fds(c, 65536, 4)
                told.append((json.loads(text), len(fds)))
                c.close()
                threading.Thread(target=notifications, args=(fds[0], answers, told), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return told

    def test_seccomp_notify_asks_the_agent(self):
        told = self.agent(lambda nr: -95)
        rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}
        self.config["annotations"] = {"a": "b"}
        for nnp in (True, False):
            self.config["process"]["noNewPrivileges"] = nnp
            self.seccomp(rule, listenerPath=self.top + "/agent", listenerMetadata="the \"word\"")
            del told[:]
            self.assertIn("not supported", self.sh("mkdir /x 2>&1; true").lower())
            state, fds = told[0]
            self.assertEqual((state["ociVersion"], state["fds"], state["metadata"], fds), ("1.3.0", ["seccompFd"], "the \"word\"", 1))
            self.assertEqual((state["state"]["id"], state["state"]["bundle"], state["state"]["status"], state["state"]["annotations"]),
                             (self.id, self.top, "creating", {"a": "b"}))
            self.assertEqual(state["pid"], state["state"]["pid"])
        # created and started by two commands, and an exec, which has a listener of its own
        self.start("sh", "-c", "mkdir /y 2>/err; sleep 1000")
        until("the agent's answer", lambda: "not supported" in (open(self.root + "/err").read() if os.path.exists(self.root + "/err") else ""))
        del told[:]
        self.assertIn("not supported", self.oci("exec", self.id, "sh", "-c", "mkdir /x 2>&1").stdout)
        state, _ = told[0]
        self.assertEqual((state["state"]["pid"], state["state"]["status"]), (self.init_pid(), "running"))
        self.assertNotEqual(state["pid"], state["state"]["pid"])
        self.assertEqual(self.oci("exec", self.id, "nosuch").returncode, 255)
        self.stop()
        # a container whose processes may trace: the exec joins last
        for k in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][k] = ["CAP_SYS_PTRACE", "CAP_KILL"]
        self.start()
        del told[:]
        self.assertIn("not supported", self.oci("exec", self.id, "sh", "-c", "mkdir /x 2>&1").stdout)
        self.assertIn(told[0][0]["pid"], [n[2] for n in told if n[0] == "notified"] or [told[0][0]["pid"]])

    def test_seccomp_notify_continues_the_runtimes_own_calls(self):
        told = self.agent(lambda nr: None)
        self.seccomp({"names": ["execve", "openat", "close", "read", "recvfrom", "sendto", "exit_group"], "action": "SCMP_ACT_NOTIFY"},
                     listenerPath=self.top + "/agent")
        self.assertEqual(self.sh("echo ok"), "ok\n")
        self.start()
        self.assertEqual(self.oci("exec", self.id, "echo", "in").stdout, "in\n")
        self.assertGreater(len(told), 5)

    def test_seccomp_notify_refusals(self):
        rule = {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}
        self.seccomp(rule, listenerPath=self.top + "/nobody")
        self.refused("linux.seccomp.listenerPath", self.top + "/nobody")
        self.seccomp(rule, listenerPath="relative")
        self.refused("linux.seccomp.listenerPath", "absolute")
        self.seccomp({"names": ["write"], "action": "SCMP_ACT_NOTIFY"}, listenerPath=self.top + "/agent")
        self.refused("write")
        self.seccomp(default="SCMP_ACT_NOTIFY", listenerPath=self.top + "/agent")
        self.refused("linux.seccomp.defaultAction")
        self.seccomp({"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"})  # nobody listens: the kernel says ENOSYS
        self.assertIn("not implemented", self.sh("mkdir /x 2>&1; true").lower())


def notifications(fd, answers, told):
    """Serves a listener (seccomp_unotify(2)): answers(number) is a negative errno, or None to continue."""
    receive, send = 0xc0502100, 0xc0182101
    while True:
        ready, _, _ = select.select([fd], [], [], 60)
        if not ready:
            return
        notif = bytearray(80)
        try:
            fcntl.ioctl(fd, receive, notif)
        except OSError:
            if select.select([fd], [], [], 0)[0]:
                p = select.poll()
                p.register(fd)
                if any(e & select.POLLHUP for _, e in p.poll(0)):
                    return
            continue
        key, pid, _, nr = struct.unpack_from("=QIIi", notif)
        told.append(("notified", nr, pid))
        answer = answers(nr)
        with contextlib.suppress(OSError):
            fcntl.ioctl(fd, send, bytearray(struct.pack("=QqiI", key, 0, answer or 0, 0 if answer else 1)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
