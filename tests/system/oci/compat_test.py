#!/usr/bin/env python3
"""What runc's own suite asks of a runtime, and users rely on without the specification saying so."""
import json
import os
import re
import signal
import subprocess
import unittest

from fields_test import until
from oci_test import CAPS, NS, OCI, PREFIX, V2, Bundle, controller


def v1(*names):
    return os.path.join("/sys/fs/cgroup", *names)


class Compat(Bundle):
    def record(self):
        return json.loads(self.oci("state", self.id).stdout)

    def exec_sh(self, script):
        r = self.oci("exec", self.id, "sh", "-c", script)
        self.assertEqual(r.returncode, 0, r.stderr)
        return r.stdout

    # --- the environment -------------------------------------------------------------------------

    def test_each_variable_is_there_once_with_its_last_value(self):
        self.config["process"]["env"] = ["A=1", "PATH=/nowhere", "B=2", "A=3", "PATH=/bin", "A=4"]
        self.assertEqual(self.run_it("/bin/busybox", "env").splitlines(), ["B=2", "PATH=/bin", "A=4", "HOME=/"])

    def test_an_empty_home_is_none(self):
        os.makedirs(self.root + "/etc")
        open(self.root + "/etc/passwd", "w").write("root:x:0:0::/its/home:/bin/sh\n")
        for home, want in ((["HOME="], "/its/home"), (["HOME=/a", "HOME="], "/its/home"), (["HOME=", "HOME=/a"], "/a")):
            self.config["process"]["env"] = ["PATH=/bin", *home]
            self.assertEqual(self.sh("echo $HOME; env | busybox grep -c ^HOME=").split(), [want, "1"])

    def test_a_start_hook_has_the_processes_environment(self):
        self.config["process"]["env"] = ["PATH=/bin", "ONE=two"]
        hook = {"path": "/bin/sh", "args": ["sh", "-c", "echo $ONE > /of_hook"]}
        self.config["hooks"] = {"startContainer": [hook]}
        self.assertEqual(self.sh("cat /of_hook"), "two\n")
        hook["env"] = ["ONE=own"]
        self.assertEqual(self.sh("cat /of_hook"), "own\n")

    def test_a_createcontainer_hook_stands_in_the_root(self):
        """What it mounts there, or at root.path, is in the container, and nowhere else."""
        open(self.top + "/from", "w").write("mounted")
        os.makedirs(self.root + "/etc")
        script = (f"pwd > {self.top}/pwd; for f in etc/hosts {self.root}/etc/passwd; do echo > $f; "
                  f"mount --bind {self.top}/from $f || exit; done")
        self.config["hooks"] = {"createContainer": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}]}
        for more in ([], ["--no-pivot"]):
            self.config["process"]["args"] = ["cat", "/etc/hosts", "/etc/passwd"]
            self.write()
            r = self.oci("run", *more, "-b", self.top, self.id)
            self.assertEqual((r.returncode, r.stdout), (0, "mounted" * 2), r.stderr)
            self.assertEqual(open(self.top + "/pwd").read().strip(), self.root)
            self.assertEqual(open(self.root + "/etc/hosts").read() + open(self.root + "/etc/passwd").read(), "\n\n")

    def test_without_pivot_root_the_callers_proc_is_not_below(self):
        """With a whole proc in the mount namespace another may be mounted in a user namespace."""
        for k in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][k] = CAPS + ["CAP_SYS_ADMIN", "CAP_SETFCAP", "CAP_SETUID", "CAP_SETGID"]
        script = "unshare -mrpf sh -c 'mount -t proc none /proc && echo mounted'; true"
        self.config["process"]["args"] = ["sh", "-c", script]
        self.write()
        for more in ([], ["--no-pivot"]):
            r = self.oci("run", *more, "-b", self.top, self.id)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertNotIn("mounted", r.stdout, more)
            self.assertIn("ermi", r.stderr, more)  # it was tried: the kernel's word is EPERM

    # --- mounts ----------------------------------------------------------------------------------

    def test_a_path_masked_twice_is_masked_once(self):
        os.makedirs(self.root + "/hidden/x")
        self.config["linux"]["maskedPaths"] += ["/hidden"] * 3
        self.assertEqual(self.sh("ls /hidden; grep -c ' /hidden ' /proc/self/mountinfo"), "1\n")

    def test_a_tmpfs_has_the_mode_of_the_folder_below(self):
        os.makedirs(self.root + "/t")
        m = {"destination": "/t", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "size=64k"]}
        self.config["mounts"].append(m)
        for mode in (0o710, 0o1777, 0o6755):
            os.chmod(self.root + "/t", mode)
            self.assertEqual(self.sh("stat -c %a /t").strip(), f"{mode:o}")
        m["options"].append("mode=0410")
        self.assertEqual(self.sh("stat -c %a /t").strip(), "410")
        m.update(destination="/new", options=["mode=444"])
        self.assertEqual(self.sh("stat -c %a /new").strip(), "444")

    def test_proc_and_sys_are_never_mounted_through_a_link(self):
        for name in ("proc", "sys"):
            for made in ("proc", "sys"):
                if os.path.isdir(f"{self.root}/{made}"):
                    os.rmdir(f"{self.root}/{made}")
            os.symlink("/elsewhere", f"{self.root}/{name}")
            self.assertIn("must be mounted on ordinary directory", self.run_it("true", want=1))
            os.unlink(f"{self.root}/{name}")

    def test_a_read_only_dev_has_its_devices_and_mounts(self):
        i = next(i for i, m in enumerate(self.config["mounts"]) if m["destination"] == "/dev")
        self.config["mounts"][i]["options"] = ["nosuid", "mode=755", "ro"]
        self.assertEqual(self.sh("ls -d /dev/null /dev/pts/ptmx /dev/fd; touch /dev/x 2>/dev/null || echo refused").split(),
                         ["/dev/fd", "/dev/null", "/dev/pts/ptmx", "refused"])

    def test_a_file_is_bound_through_links_that_hang_in_the_air(self):
        open(self.top + "/from", "w").write("bound")
        os.makedirs(self.root + "/etc")
        os.symlink("../far/away/hosts", self.root + "/etc/hosts")
        os.makedirs(self.root + "/far")
        os.symlink("/else/where", self.root + "/far/away")
        self.config["mounts"].append({"destination": "/etc/hosts", "type": "bind", "source": self.top + "/from", "options": ["bind"]})
        self.assertEqual(self.sh("cat /etc/hosts /else/where/hosts"), "bound" * 2)
        os.unlink(self.root + "/etc/hosts")
        os.symlink("hosts", self.root + "/etc/hosts")
        self.run_it("true", want=1)

    def test_sources_that_only_the_hosts_root_may_walk(self):
        """In a user namespace, too: its root is nobody there."""
        os.makedirs(self.top + "/closed/dir")
        open(self.top + "/closed/dir/file", "w").write("seen")
        os.chmod(self.top + "/closed", 0o700)
        self.config["linux"]["namespaces"] = NS + [{"type": "user"}]
        self.config["linux"].update(uidMappings=[{"containerID": 0, "hostID": 100000, "size": 65536}],
                                    gidMappings=[{"containerID": 0, "hostID": 100000, "size": 65536}])
        for n in ("dir", "dir/file"):
            self.config["mounts"].append({"destination": f"/seen-{os.path.basename(n)}", "type": "bind", "options": ["rbind", "ro"],
                                          "source": f"{self.top}/closed/{n}"})
        for name in ("proc", "dev", "sys", "seen-dir"):
            os.makedirs(f"{self.root}/{name}")
        open(self.root + "/seen-file", "w").close()
        self.assertEqual(self.sh("cat /seen-dir/file /seen-file"), "seen" * 2)

    # --- cgroups ---------------------------------------------------------------------------------

    @unittest.skipUnless(controller("pids"), "this kernel has no pids controller")
    def test_a_pids_limit_of_0_is_a_limit(self):
        self.config["linux"]["resources"]["pids"] = {"limit": 0}
        out = self.run_it("/bin/busybox", "cat", "/sys/fs/cgroup/pids.max" if V2 else "/sys/fs/cgroup/pids/pids.max")
        self.assertEqual(out.strip(), "1")

    @unittest.skipIf(V2 or not controller("cpuset"), "only the cpuset controller of cgroup v1 has groups that take no process")
    def test_cpusets_that_others_have_left_empty_are_filled(self):
        above = f"{PREFIX}-{os.getpid()}"
        for depth in (2, 3):
            parts = [above, "b", self.id][:depth]
            os.makedirs(v1("cpuset", *parts))  # empty cpuset.cpus: the kernel refuses its members
            try:
                self.assertEqual(open(v1("cpuset", above, "cpuset.cpus")).read().strip(), "")
                self.config["linux"]["cgroupsPath"] = "/" + "/".join([above, "b", self.id])
                self.assertEqual(self.sh("cat /sys/fs/cgroup/cpuset/cpuset.cpus /sys/fs/cgroup/cpuset/cpuset.mems").split(),
                                 [open(v1("cpuset", f)).read().strip() for f in ("cpuset.cpus", "cpuset.mems")])
            finally:
                for h in os.listdir(v1()):
                    for n in (3, 2, 1):
                        path = v1(h, *[above, "b", self.id][:n])
                        if os.path.isdir(path):
                            os.rmdir(path)

    def test_unknown_device_accesses_are_passed_over(self):
        self.config["linux"]["resources"]["devices"].append({"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rwa"})
        self.run_it("true")

    @unittest.skipUnless(os.path.exists("/sys/fs/cgroup/cpu/cpu.rt_runtime_us"), "this kernel has no groups of realtime tasks")
    def test_realtime_limits_change_in_any_order(self):
        self.start()
        group = v1("cpu", self.id)
        if open(group + "/cpu.rt_runtime_us").read().strip() == "0":
            try:
                open(group + "/cpu.rt_runtime_us", "w").write("1000")
            except OSError:
                self.skipTest("the group above has no realtime for us")
        for period, runtime in ((900001, 6000), (10000, 30), (100000, 200)):
            r = self.oci("update", "--cpu-rt-period", str(period), "--cpu-rt-runtime", str(runtime), self.id)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertEqual([int(open(f"{group}/cpu.rt_{f}_us").read()) for f in ("period", "runtime")], [period, runtime])

    def test_an_exec_joins_no_cgroup_above(self):
        self.start()
        for path in ("..", "a/../..", "../" + self.id):
            r = self.oci("exec", "--cgroup", path, self.id, "true")
            self.assertEqual((r.returncode, "bad sub cgroup path" in r.stderr), (255, True), r.stderr)
        r = self.oci("exec", "--cgroup", "none", self.id, "true")
        self.assertEqual(r.returncode, 255)
        self.assertRegex(r.stderr, "adding pid .*No such file or directory")

    # --- the verbs -------------------------------------------------------------------------------

    def orphans(self):
        """A container in the host's pid namespace whose first process has ended, and left another."""
        self.config["linux"]["namespaces"] = [n for n in NS if n["type"] != "pid"]
        self.config["mounts"][0] = {"destination": "/proc", "type": "bind", "source": "/proc", "options": ["rbind"]}
        self.start("sh", "-c", "sleep 1000 & sleep 1000")
        first = self.record()["pid"]
        pids = until("both are there", lambda: (p := self.pids()) and len(p) >= 2 and p)
        os.kill(first, signal.SIGKILL)
        until("the first has ended", lambda: self.record()["status"] == "stopped")
        return [p for p in pids if p != first]

    def pids(self):
        return json.loads(self.oci("ps", "-f", "json", self.id).stdout) or []

    def ended(self, pids):
        return not any(os.path.exists(f"/proc/{p}") and open(f"/proc/{p}/stat").read().split(")")[-1].split()[0] != "Z" for p in pids)

    def test_a_created_container_ends_by_the_signals_that_end_others(self):
        self.config["process"]["args"] = ["true"]
        self.write()
        for sig in ("TERM", "INT", "HUP", "KILL"):
            r = subprocess.run([OCI, "--root", self.state, "create", "-b", self.top, self.id], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.assertEqual(r.returncode, 0)
            self.assertEqual(self.oci("kill", self.id, sig).returncode, 0)
            until("it has ended by " + sig, lambda: self.record()["status"] == "stopped")
            self.assertEqual(self.oci("delete", self.id).returncode, 0)

    def test_kill_and_delete_reach_who_has_outlived_the_first_process(self):
        left = self.orphans()
        r = self.oci("kill", self.id, "KILL")
        self.assertEqual(r.returncode, 0, r.stderr)
        until("all have ended", lambda: self.ended(left))
        self.assertEqual(self.oci("delete", self.id).returncode, 0)
        for force in ([], ["--force"]):
            left = self.orphans()
            r = self.oci("delete", *force, self.id)
            self.assertEqual(r.returncode, 0, r.stderr)
            until("all have ended", lambda: self.ended(left))

    def test_list_is_in_order_and_wants_the_root_that_is_named(self):
        self.start()
        names = [f"{self.id}-{c}" for c in "cab"]
        try:
            for name in names:
                r = subprocess.run([OCI, "--root", self.state, "create", "-b", self.top, name], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                self.assertEqual(r.returncode, 0)
            self.assertEqual(self.oci("list", "-q").stdout.split(), [self.id, *sorted(names)])
        finally:
            for name in names:
                self.oci("delete", "--force", name)
        r = subprocess.run([OCI, "--root", self.top + "/none", "list"], capture_output=True, text=True)
        self.assertEqual((r.returncode, "/none" in r.stderr), (1, True), r.stderr)
        self.assertEqual(subprocess.run([OCI, "--root", "", "list"], capture_output=True).returncode, 0)

    def test_unknown_commands_and_help(self):
        r = self.oci("foo", "-h")
        self.assertEqual((r.returncode, "No help topic for 'foo'" in r.stderr), (3, True), r.stderr)
        for command in ("create", "exec", "list", "features"):
            lines = [line for line in self.oci(command, "--help").stdout.splitlines() if line]
            self.assertEqual((lines[0], lines[1].startswith(f"   knarr-oci {command} - ")), ("NAME:", True))

    def test_debug_lines_are_runcs(self):
        self.config["process"]["args"] = ["true"]
        self.write()
        line = re.compile(r'^time="[^"]+" level=debug msg=".*"$', re.M)
        self.assertRegex(self.oci("--debug", "run", "-b", self.top, self.id).stderr, line)
        for more, want in (([], line), (["--log-format", "json"], re.compile('"level":"debug"'))):
            log = self.top + "/log"
            r = self.oci("--log", log, *more, "--debug", "run", "-b", self.top, self.id)
            self.assertEqual((r.returncode, r.stderr), (0, ""))
            self.assertRegex(open(log).read(), want)
            if more:
                self.assertTrue(all(json.loads(x)["msg"] for x in open(log)))
            os.unlink(log)
        self.start()
        self.assertRegex(self.oci("--debug", "exec", self.id, "true").stderr, line)

    def test_ambient_capabilities_that_cannot_be_raised_are_named(self):
        self.config["process"]["capabilities"].update(ambient=["CAP_CHOWN"], inheritable=[])
        self.config["process"]["args"] = ["true"]
        self.write()
        r = self.oci("run", "-b", self.top, self.id)
        self.assertEqual((r.returncode, "can't raise ambient capability CAP_CHOWN: " in r.stderr), (0, True), r.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
