#!/usr/bin/env python3
"""knarr-oci runs real containers (busybox-static) as root, on whatever cgroup version this machine has.

Each test makes a bundle of its own below a temporary folder; at the end no cgroup, process or mount
of ours may remain. The known escapes of OCI runtimes are tests here."""
import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BUILD = os.environ["KNARR_BUILD"]
OCI = os.path.join(BUILD, "src/runtime/knarr-oci")
BUSYBOX = "/bin/busybox"
PREFIX = f"knarr-test-{os.getpid()}"
V2 = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
APPARMOR = (os.path.exists("/sys/module/apparmor/parameters/enabled") and
            open("/sys/module/apparmor/parameters/enabled").read().strip() == "Y")
APPLETS = "sh sed cat ls id mount umount sleep echo env grep ps head test stat touch true ln mkdir readlink dd hostname kill tty chmod".split()
NS = [{"type": t} for t in ("pid", "network", "ipc", "uts", "mount", "cgroup")]
CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]

BASE = {
    "ociVersion": "1.0.2",
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/",
                "env": ["PATH=/usr/bin:/bin"], "noNewPrivileges": True,
                "capabilities": {k: CAPS for k in ("bounding", "effective", "permitted")}},
    "root": {"path": "rootfs", "readonly": False},
    "hostname": "boat",
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
        {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
    ],
    "linux": {"resources": {"devices": [{"allow": False, "access": "rwm"}]}, "namespaces": NS,
              "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware", "/proc/timer_list"],
              "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]},
}


def controller(name):
    """Whether this machine has the cgroup controller."""
    if V2:
        return name in open("/sys/fs/cgroup/cgroup.controllers").read().split()
    return os.path.isdir(f"/sys/fs/cgroup/{name}")


def cgroups():
    """Cgroups of ours that exist."""
    found = []
    for top, folders, _ in os.walk("/sys/fs/cgroup"):
        found += [os.path.join(top, f) for f in folders if f.startswith(PREFIX)]
        if top.count("/") > 5:
            folders[:] = []
    return found


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Bundle(unittest.TestCase):
    """A bundle of a test's own, and what is done with it."""

    def setUp(self):
        self.top = tempfile.mkdtemp(prefix=PREFIX)
        self.root = os.path.join(self.top, "rootfs")
        self.state = os.path.join(self.top, "state")
        os.makedirs(os.path.join(self.root, "bin"))
        shutil.copy(BUSYBOX, os.path.join(self.root, "bin/busybox"))
        for name in APPLETS:
            os.symlink("busybox", os.path.join(self.root, "bin", name))
        self.config = copy.deepcopy(BASE)
        self.id = f"{PREFIX}-{self._testMethodName[:40]}"
        os.chmod(self.top, 0o755)

    def tearDown(self):
        subprocess.run([OCI, "--root", self.state, "delete", "--force", self.id], capture_output=True)
        shutil.rmtree(self.top)
        self.assertEqual(cgroups(), [])

    def oci(self, *args, **kw):
        kw.setdefault("timeout", 60)
        kw.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run([OCI, "--root", self.state, *args], capture_output=True, text=True, **kw)

    def write(self):
        with open(os.path.join(self.top, "config.json"), "w") as f:
            json.dump(self.config, f)

    def run_it(self, *args, want=0, **kw):
        if args:
            self.config["process"]["args"] = list(args)
        self.write()
        r = self.oci("run", "-b", self.top, self.id, **kw)
        self.assertEqual(r.returncode, want, r.stdout + r.stderr)
        return r.stdout if want == 0 else r.stdout + r.stderr

    def sh(self, script, **kw):
        return self.run_it("sh", "-c", script, **kw)

    def start(self, *args):
        self.config["process"]["args"] = list(args or ("sleep", "1000"))
        self.write()
        for command in (["create", "-b", self.top, self.id], ["start", self.id]):
            # A detached process keeps our pipes open: only the errors matter.
            r = subprocess.run([OCI, "--root", self.state, *command], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=open(self.top + "/err", "w"), timeout=60)
            self.assertEqual(r.returncode, 0, open(self.top + "/err").read())


class Oci(Bundle):
    # --- what a container is ---------------------------------------------------------------------

    def test_output_exit_code_and_signal(self):
        self.assertEqual(self.sh("echo out; echo err >&2"), "out\n")
        self.run_it("sh", "-c", "exit 42", want=42)
        self.config["linux"]["namespaces"] = [n for n in NS if n["type"] != "pid"]  # pid 1 is deaf to its own
        self.run_it("sh", "-c", "kill -9 $$", want=137)

    def test_a_life_in_steps(self):
        self.write()
        self.config["process"]["args"] = ["sleep", "1000"]
        self.start("sleep", "1000")
        state = json.loads(self.oci("state", self.id).stdout)
        self.assertEqual((state["status"], state["id"], state["bundle"]), ("running", self.id, self.top))
        self.assertIn(self.id, self.oci("list", "-q").stdout)
        self.assertEqual(self.oci("start", self.id).returncode, 1)
        self.assertIn("not stopped", self.oci("delete", self.id).stderr)
        self.assertEqual(self.oci("exec", self.id, "sh", "-c", "echo $0 in $(hostname)").stdout, "sh in boat\n")
        self.assertEqual(self.oci("exec", self.id, "sh", "-c", "exit 7").returncode, 7)
        self.assertEqual(self.oci("pause", self.id).returncode, 0)
        self.assertEqual(json.loads(self.oci("state", self.id).stdout)["status"], "paused")
        self.assertIn("paused", self.oci("exec", self.id, "true").stderr)
        self.assertEqual(self.oci("resume", self.id).returncode, 0)
        self.assertEqual(self.oci("kill", self.id, "KILL").returncode, 0)
        for _ in range(200):
            if json.loads(self.oci("state", self.id).stdout)["status"] == "stopped":
                break
            time.sleep(0.01)
        self.assertEqual(self.oci("delete", self.id).returncode, 0)
        self.assertIn("does not exist", self.oci("state", self.id).stderr)

    def test_a_created_container_waits(self):
        self.config["process"]["args"] = ["sleep", "1000"]
        self.write()
        subprocess.run([OCI, "--root", self.state, "create", "-b", self.top, self.id], check=True, timeout=60,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        state = json.loads(self.oci("state", self.id).stdout)
        self.assertEqual(state["status"], "created")
        self.assertIn("exists", self.oci("create", "-b", self.top, self.id).stderr)
        self.assertEqual(self.oci("delete", "--force", self.id).returncode, 0)

    @unittest.skipUnless(len(os.sched_getaffinity(0)) > 1, "one CPU only")
    def test_the_callers_cpus_are_not_the_containers(self):
        ours = os.sched_getaffinity(0)
        show = ["grep", "Cpus_allowed_list", "/proc/self/status"]
        free = self.run_it(*show)
        os.sched_setaffinity(0, {min(ours)})
        try:
            self.assertEqual(self.run_it(*show), free)
        finally:
            os.sched_setaffinity(0, ours)

    def test_an_unbindable_root(self):
        self.config["linux"]["rootfsPropagation"] = "unbindable"
        self.assertIn(" unbindable ", self.sh("grep ' / / ' /proc/self/mountinfo || cat /proc/self/mountinfo"))

    def test_lines_of_a_terminal_end_as_the_program_wrote_them(self):
        self.config["process"]["terminal"] = True
        self.assertEqual(self.run_it("echo", "here"), "here\n")

    @unittest.skipIf(V2, "cgroup v2 takes unified resources")
    def test_unified_resources_are_refused_on_cgroup_v1(self):
        self.config["linux"]["resources"]["unified"] = {"memory.min": "131072"}
        self.assertIn("unified", self.run_it("true", want=1))

    def create(self, umask=0o22):
        r = subprocess.run([OCI, "--root", self.state, "create", "-b", self.top, self.id], timeout=60, umask=umask,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.top + "/err", "w"))
        return r.returncode, open(self.top + "/err").read()

    def test_start_reaches_a_user_without_capabilities(self):
        self.config["process"] |= {"args": ["sleep", "1000"], "user": {"uid": 1000, "gid": 1000}, "capabilities": {}}
        self.write()
        self.assertEqual(self.create(umask=0o77), (0, ""))
        started = self.oci("start", self.id)
        self.assertEqual((started.returncode, started.stderr), (0, ""))
        self.assertEqual(json.loads(self.oci("state", self.id).stdout)["status"], "running")

    def test_start_does_not_wait_for_a_process_that_has_ended(self):
        self.write()
        self.assertEqual(self.create(), (0, ""))
        os.kill(json.loads(self.oci("state", self.id).stdout)["pid"], signal.SIGKILL)
        self.assertEqual(self.oci("start", self.id).returncode, 1)

    def test_a_cgroup_that_others_use_or_have_frozen_is_refused(self):
        cgroup = f"{PREFIX}-shared"
        folder = f"/sys/fs/cgroup/{'' if V2 else 'freezer/'}{cgroup}"
        self.config["linux"]["cgroupsPath"] = "/" + cgroup
        self.write()
        os.mkdir(folder)
        freezer = folder + ("/cgroup.freeze" if V2 else "/freezer.state")
        try:
            with open(freezer, "w") as f:
                f.write("1" if V2 else "FROZEN")
            self.assertIn("unexpectedly frozen", self.create()[1])
            with open(freezer, "w") as f:
                f.write("0" if V2 else "THAWED")
            self.assertEqual(self.create(), (0, ""))
            r = self.oci("create", "-b", self.top, self.id + "2")
            self.assertIn("cgroup is not empty", r.stderr)
        finally:
            self.oci("delete", "--force", self.id)
            if os.path.isdir(folder):
                os.rmdir(folder)

    def test_a_filter_older_than_our_calls_lets_the_program_start(self):
        self.config["process"]["cwd"] = "/bin"
        self.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW",
                                           "syscalls": [{"names": ["faccessat2", "openat2"], "action": "SCMP_ACT_ERRNO"}]}
        del self.config["process"]["noNewPrivileges"]  # then the filter is there before the program is looked for
        self.assertEqual(self.run_it("echo", "here"), "here\n")

    def test_namespaces_names_and_limits(self):
        self.config["domainname"] = "sea"
        self.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "8192"}
        self.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 200, "soft": 100}]
        out = self.sh("hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax; "
                      "ulimit -n; ulimit -Hn; echo $$; cat /proc/self/cgroup | grep -v ':/$'; cat /sys/class/net/lo/flags")
        self.assertEqual(out, "boat\nsea\n1\n8192\n100\n200\n1\n0x9\n")

    def test_user_groups_umask_and_capabilities(self):
        p = self.config["process"]
        p["user"] = {"uid": 1000, "gid": 1001, "additionalGids": [5, 6], "umask": 0o77}
        p["capabilities"]["inheritable"] = p["capabilities"]["ambient"] = ["CAP_NET_BIND_SERVICE"]
        out = self.sh("id -u; id -g; id -G; umask; grep -E 'Cap|NoNew' /proc/self/status")
        self.assertEqual(out.split(), ["1000", "1001", "1001", "5", "6", "0077", "CapInh:", "0000000000000400",
                                       "CapPrm:", "0000000000000400", "CapEff:", "0000000000000400",
                                       "CapBnd:", "0000000020000420", "CapAmb:", "0000000000000400", "NoNewPrivs:", "1"])

    def test_home_is_the_users_unless_it_is_said(self):
        p = self.config["process"]
        os.makedirs(self.root + "/etc", exist_ok=True)
        with open(self.root + "/etc/passwd", "w") as f:
            f.write("root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
        for uid, home in ((0, "/root"), (1000, "/home/app"), (4242, "/")):
            p["user"] = {"uid": uid, "gid": 0}
            self.assertEqual(self.sh("echo $HOME"), home + "\n")
        p["user"] = {"uid": 0, "gid": 0}
        self.start("sleep", "1000")
        self.assertEqual(self.oci("exec", "--user", "1000", self.id, "sh", "-c", "echo $HOME").stdout, "/home/app\n")
        self.assertEqual(self.oci("exec", "-e", "HOME=/x", self.id, "sh", "-c", "echo $HOME").stdout, "/x\n")
        self.assertEqual(self.oci("delete", "--force", self.id).returncode, 0)
        p["env"].append("HOME=/said")
        self.assertEqual(self.sh("echo $HOME"), "/said\n")

    def test_no_capabilities_at_all_and_all_of_them(self):
        del self.config["process"]["capabilities"]
        self.assertIn("CapBnd:\t0000000000000000", self.sh("grep CapBnd /proc/self/status"))
        everything = json.loads(self.oci("features").stdout)["linux"]["capabilities"]
        self.config["process"]["capabilities"] = {k: everything for k in ("bounding", "effective", "permitted")}
        own = [l for l in open("/proc/self/status") if l.startswith("CapBnd")][0]
        self.assertEqual(self.sh("grep CapBnd /proc/self/status"), own)

    def test_resources_are_the_kernels(self):
        self.config["linux"]["resources"].update({"memory": {"limit": 64 << 20}, "pids": {"limit": 50},
                                                  "cpu": {"shares": 512, "quota": 50000, "period": 100000}})
        out = self.sh("cd /sys/fs/cgroup; cat memory.max cpu.max pids.max 2>/dev/null || "
                      "cat memory/memory.limit_in_bytes cpu/cpu.cfs_quota_us cpu/cpu.cfs_period_us pids/pids.max")
        self.assertEqual(out.split(), ["67108864", "50000", "100000", "50"])

    @unittest.skipUnless(V2, "cgroup v1: a container cannot hand down controllers there")
    def test_exec_into_a_container_that_hands_down_controllers(self):
        for m in self.config["mounts"]:
            if m["type"] == "cgroup":
                m["options"].remove("ro")
        self.start("sh", "-c", "cd /sys/fs/cgroup && mkdir init && echo 0 > init/cgroup.procs && "
                               "echo +memory +pids > cgroup.subtree_control && touch /done; sleep 1000")
        for _ in range(200):
            if os.path.exists(self.root + "/done"):
                break
            time.sleep(0.05)
        for _ in range(2):
            r = self.oci("exec", self.id, "sh", "-c", "cat /proc/self/cgroup /sys/fs/cgroup/cgroup.subtree_control")
            self.assertEqual(r.stdout, "0::/init\nmemory pids\n", r.stderr)

    @unittest.skipUnless(V2, "cgroup v1: there the container sees its own part")
    def test_without_a_cgroup_namespace_the_whole_tree_is_shown(self):
        self.config["linux"]["namespaces"] = [n for n in NS if n["type"] != "cgroup"]
        out = self.sh("cat /proc/self/cgroup; ls -d /sys/fs/cgroup$(sed s/0::// /proc/self/cgroup)")
        self.assertEqual(len(out.splitlines()), 2)
        self.assertIn(self.id, out)

    @unittest.skipUnless(controller("cpuset"), "this kernel has no cpuset controller")
    def test_cpuset(self):
        self.config["linux"]["resources"]["cpu"] = {"cpus": "0", "mems": "0"}
        out = self.sh("cd /sys/fs/cgroup; cat cpuset.cpus cpuset.mems 2>/dev/null || cat cpuset/cpuset.cpus cpuset/cpuset.mems; "
                      "grep Cpus_allowed_list /proc/self/status")
        self.assertEqual(out.split(), ["0", "0", "Cpus_allowed_list:", "0"])

    @unittest.skipUnless(controller("hugetlb") and os.path.exists("/sys/kernel/mm/hugepages/hugepages-2048kB"),
                         "this kernel has no hugetlb controller, or no pages of 2 MB")
    def test_hugepage_limits(self):
        self.config["linux"]["resources"]["hugepageLimits"] = [{"pageSize": "2MB", "limit": 4 << 20}]
        out = self.sh("cd /sys/fs/cgroup; cat hugetlb.2MB.max 2>/dev/null || cat hugetlb/hugetlb.2MB.limit_in_bytes")
        self.assertEqual(out.strip(), str(4 << 20))

    @unittest.skipUnless(APPARMOR, "this kernel runs without AppArmor")
    def test_apparmor_profiles(self):
        self.config["process"]["apparmorProfile"] = "unconfined"
        self.assertEqual(self.sh("cat /proc/self/attr/current").strip(), "unconfined")
        self.config["process"]["apparmorProfile"] = "knarr-no-such-profile"
        self.assertIn("knarr-no-such-profile", self.run_it("true", want=1))

    def test_devices_are_few_and_guarded(self):
        self.config["process"]["capabilities"]["bounding"] = CAPS + ["CAP_MKNOD"]
        out = self.sh("echo x >/dev/null && head -c 2 /dev/zero | wc -c; ls /dev; stat -c %a /dev/tty")
        self.assertIn("null", out)
        self.assertNotIn("vda", out)

    def test_seccomp(self):
        self.config["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["sethostname", "mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}]}
        self.assertIn("not supported", self.sh("mkdir /x 2>&1; true").lower())
        self.config["process"]["noNewPrivileges"] = False
        self.assertIn("not supported", self.sh("mkdir /x 2>&1; true").lower())

    def test_readonly_root_masked_and_readonly_paths(self):
        self.config["root"]["readonly"] = True
        out = self.sh("touch /x 2>&1; echo 1 > /proc/sys/kernel/panic; cat /proc/keys; ls /sys/firmware; echo end; "
                      "cat /proc/timer_list | head -1; true", want=0)
        self.assertIn("Read-only", out)
        self.assertTrue(out.endswith("end\n"))

    def test_nothing_of_the_old_root_is_left(self):
        tops = [l.split()[4] for l in self.sh("cat /proc/self/mountinfo").splitlines() if l.split()[4] == "/"]
        self.assertEqual(tops, ["/"])
        self.start()
        pid = json.loads(self.oci("state", self.id).stdout)["pid"]
        self.assertEqual([l.split()[4] for l in open(f"/proc/{pid}/mountinfo")].count("/"), 1)

    def test_binds_of_folders_and_files_with_options(self):
        os.makedirs(self.top + "/data/sub")
        open(self.top + "/data/f", "w").write("hello")
        self.config["mounts"] += [
            {"destination": "/deep/er/data", "type": "bind", "source": self.top + "/data", "options": ["rbind", "ro", "noexec"]},
            {"destination": "/etc/one", "type": "bind", "source": self.top + "/data/f", "options": ["bind", "rw"]}]
        out = self.sh("cat /deep/er/data/f /etc/one; touch /deep/er/data/x 2>&1; echo more >> /etc/one; grep data /proc/self/mountinfo")
        self.assertIn("hellohello", out)
        self.assertIn("Read-only", out)
        self.assertIn("ro,noexec,relatime", out)
        self.assertEqual(open(self.top + "/data/f").read(), "hellomore\n")
        self.assertEqual([l for l in open("/proc/mounts") if self.top in l], [])

    def test_bidirectional_mounts_reach_the_host_and_others_do_not(self):
        for kind, seen in (("rshared", True), ("rslave", False), ("rprivate", False)):
            data = f"{self.top}/{kind}"
            os.makedirs(data + "/in")
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", data], check=True)
            try:
                subprocess.run(["mount", "--make-shared", data], check=True)
                os.makedirs(data + "/in")
                self.config["linux"]["rootfsPropagation"] = kind if kind != "rprivate" else "rslave"
                self.config["process"]["capabilities"]["bounding"] = CAPS + ["CAP_SYS_ADMIN"]
                for k in ("effective", "permitted"):
                    self.config["process"]["capabilities"][k] = CAPS + ["CAP_SYS_ADMIN"]
                mounts = self.config["mounts"]
                self.config["mounts"] = mounts + [{"destination": "/data", "type": "bind", "source": data, "options": ["rbind", kind]}]
                ours = lambda: sum(self.top in line for line in open("/proc/self/mountinfo"))
                before = ours()
                self.sh("mount -t tmpfs tmpfs /data/in")
                self.assertEqual(f"{data}/in" in open("/proc/mounts").read(), seen, kind)
                self.assertEqual(ours(), before + seen)
                self.config["mounts"] = mounts
            finally:
                subprocess.run(["umount", "-R", data], check=True)

    def test_hooks_run_in_order_with_the_state(self):
        log = self.top + "/hooks"
        hook = lambda name: [{"path": "/bin/sh", "args": ["sh", "-c", f"(echo -n '{name} '; cat; echo) >> {log}"], "env": ["PATH=/bin"]}]
        self.config["hooks"] = {k: hook(k) for k in ("prestart", "createRuntime", "createContainer")}
        self.config["hooks"]["startContainer"] = [{"path": "/bin/sh", "args": ["sh", "-c", "echo inside > /started"]}]
        self.assertEqual(self.sh("cat /started"), "inside\n")
        lines = open(log).read().splitlines()
        self.assertEqual([l.split()[0] for l in lines], ["prestart", "createRuntime", "createContainer"])
        for line in lines:
            state = json.loads(line.split(" ", 1)[1])
            self.assertEqual((state["id"], state["status"]), (self.id, "creating"))
            self.assertGreater(state["pid"], 1)
        self.config["hooks"] = {"prestart": [{"path": "/bin/false"}]}
        self.assertRegex(self.run_it(want=1), "error running [a-zA-Z]+ hook #[0-9]: hook /bin/false")

    def test_terminal_over_a_console_socket(self):
        path = self.top + "/s"
        self.config["process"]["terminal"] = True
        self.config["process"]["args"] = ["sh", "-c", "tty; stat -c %t,%T /dev/console >/dev/null && echo yes; sleep 0.2"]
        self.write()
        with socket.socket(socket.AF_UNIX) as s:
            s.bind(path)
            s.listen(1)
            p = subprocess.Popen([OCI, "--root", self.state, "run", "-d", "-b", self.top, "--console-socket", path, self.id],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            c, _ = s.accept()
            _, fds, _, _ = socket.recv_fds(c, 100, 1)
            out = b""
            while b"yes" not in out:
                try:
                    out += os.read(fds[0], 1000)
                except OSError:
                    break
            os.close(fds[0])
            c.close()
            self.assertEqual(p.wait(20), 0)
        self.assertEqual(out.split(), [b"/dev/pts/0", b"yes"])

    def test_devices_of_the_document(self):
        self.config["linux"]["devices"] = [{"path": "/dev/sub/mine", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": 3, "gid": 4}]
        self.assertEqual(self.sh("stat -c '%a %u %g %t:%T' /dev/sub/mine").strip(), "640 3 4 1:5")

    # --- errors name the very thing --------------------------------------------------------------

    def test_errors(self):
        self.assertIn('exec: "nosuch": executable file not found in $PATH', self.run_it("nosuch", want=1))
        self.assertIn('exec: "/no/such": no such file', self.run_it("/no/such", want=1))
        self.assertIn('exec: "/bin": is a directory', self.run_it("/bin", want=1))
        open(self.root + "/script", "w").write("#!/no/interpreter\n")
        os.chmod(self.root + "/script", 0o755)
        self.assertIn("interpreter", self.run_it("/script", want=1))
        self.config["mounts"].append({"destination": "/x", "type": "bind", "source": self.top + "/none", "options": ["bind"]})
        self.assertIn(self.top + "/none", self.run_it("true", want=1))
        del self.config["mounts"][-1]
        self.config["linux"]["namespaces"] = NS + [{"type": "user"}]
        self.assertIn("linux.uidMappings: the container's id 0 is not mapped", self.run_it("true", want=1))
        self.config["linux"]["namespaces"] = NS + [{"type": "pid"}]
        self.assertIn("there twice", self.run_it("true", want=1))

    # --- the known escapes -----------------------------------------------------------------------

    def test_cve_2019_5736_own_binary_is_out_of_reach(self):
        before = os.stat(OCI)
        script = ("ls -l /proc/self/exe; for p in /proc/[0-9]*; do [ -w $p/exe ] && echo x 2>/dev/null >> $p/exe; done; true")
        self.start()
        # The process becomes the runtime itself, in the container, and tries to write to it.
        r = self.oci("exec", self.id, "sh", "-c", script)
        self.assertEqual(r.returncode, 0, r.stderr)
        os.symlink("/proc/self/exe", self.root + "/bin/self")
        # (sh's #! is the attack's way: the interpreter is the runtime's own file)
        open(self.root + "/evil", "w").write("#!/proc/self/exe\n")
        os.chmod(self.root + "/evil", 0o755)
        self.oci("exec", self.id, "/evil")
        after = os.stat(OCI)
        self.assertEqual((before.st_mtime_ns, before.st_size), (after.st_mtime_ns, after.st_size))

    def test_cve_2024_21626_no_cwd_by_a_leaked_fd(self):
        for fd in (3, 4, 7, 8, 9, 67):
            self.config["process"]["cwd"] = f"/proc/self/fd/{fd}"
            self.write()
            r = self.oci("run", "-b", self.top, self.id)
            self.assertEqual(r.returncode, 1)
            self.assertIn("process.cwd", r.stderr)

    def test_cve_2024_21626_foreign_fds_are_closed(self):
        fd = os.open("/", os.O_RDONLY)
        os.set_inheritable(fd, True)
        high = os.dup2(fd, 300, inheritable=True)
        out = self.run_it("sh", "-c", "for f in /proc/self/fd/*; do echo ${f##*/}; done", pass_fds=(fd, high))
        os.close(fd)
        os.close(high)
        self.assertLessEqual({int(n) for n in out.split() if n.isdigit()}, {0, 1, 2, 3})  # 3: the shell reads the folder

    def test_cve_2024_21626_no_program_by_a_leaked_fd(self):
        for fd in (3, 4, 5, 6, 7, 66, 67, 68, 69):
            for way in ("/../bin/busybox", "/1/root/bin/busybox", "/../bin/true"):
                self.config["process"]["args"] = [f"/proc/self/fd/{fd}{way}", "sleep", "1000"]
                self.write()
                self.assertNotEqual(self.oci("run", "-b", self.top, self.id).returncode, 0, f"{fd}{way}")
                quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                subprocess.run([OCI, "--root", self.state, "create", "-b", self.top, self.id], timeout=60, **quiet)
                r = subprocess.run([OCI, "--root", self.state, "start", self.id], timeout=60, **quiet)
                until = time.monotonic() + 20  # one that started ends when it finds no such program
                while not r.returncode and '"running"' in self.oci("state", self.id).stdout:
                    self.assertLess(time.monotonic(), until, f"{fd}{way}")
                    time.sleep(0.01)
                self.oci("delete", "--force", self.id)

    def test_a_tracer_in_the_container_gets_an_exec_without_power(self):
        for k in ("bounding", "effective", "permitted"):
            self.config["process"]["capabilities"][k] = CAPS + ["CAP_SYS_PTRACE"]
        self.start()
        r = self.oci("exec", self.id, "sh", "-c", "echo $$ $(readlink /proc/self/exe); exit 7")
        self.assertEqual(r.returncode, 7, r.stderr)
        self.assertIn("/bin/busybox", r.stdout)
        self.assertIn("not found", self.oci("exec", self.id, "nosuch").stderr)

    def test_cve_2019_16884_proc_must_be_proc(self):
        self.config["mounts"].append({"destination": "/proc/self/attr", "type": "bind", "source": self.top, "options": ["bind"]})
        self.assertIn("must not hide a part of /proc", self.run_it("true", want=1))
        del self.config["mounts"][-1]
        os.makedirs(self.root + "/elsewhere")
        os.rmdir(self.root + "/proc")
        os.symlink("/elsewhere", self.root + "/proc")
        self.assertIn("symbolic link", self.run_it("true", want=1))

    def test_cve_2021_30465_links_never_leave_the_root(self):
        outside = self.top + "/outside"
        os.makedirs(outside)
        os.symlink("../../../../../../../.." + outside, self.root + "/link")
        self.config["mounts"].append({"destination": "/link/new", "type": "tmpfs", "source": "tmpfs", "options": ["size=64k"]})
        self.assertIn("tmpfs", self.sh("stat -f -c %T /link/new"))
        self.assertEqual(os.listdir(outside), [])
        self.assertTrue(os.path.isdir(self.root + outside + "/new"))  # the link was followed inside the root

    def test_dev_links_are_not_followed(self):
        victim = self.top + "/victim"
        open(victim, "w").write("whole")
        os.makedirs(self.root + "/dev")
        self.config["mounts"] = [m for m in self.config["mounts"] if not m["destination"].startswith("/dev")]
        os.symlink("../.." + victim, self.root + "/dev/null")
        self.assertIn("something else is there", self.run_it("true", want=1))
        self.assertEqual(open(victim).read(), "whole")

    def test_cve_2025_31133_masks_do_not_trust_the_containers_null(self):
        os.makedirs(self.root + "/dev")
        open(self.root + "/dev/none", "w").write("x")
        out = self.sh("cat /proc/keys; echo y > /proc/keys; true")
        self.assertEqual(out, "")

    def test_cve_2025_52881_procfs_writes_go_to_proc(self):
        # Even where the container's /proc/sys is something else, the setting reaches the kernel's.
        self.config["linux"]["sysctl"] = {"net.ipv4.ip_forward": "1"}
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != "/proc"]
        os.makedirs(self.root + "/proc/sys/net/ipv4")
        fake = self.root + "/proc/sys/net/ipv4/ip_forward"
        open(fake, "w").write("0")
        self.config["linux"]["maskedPaths"] = []
        self.sh("true")
        self.assertEqual(open(fake).read(), "0")

    def test_cve_2026_30892_exec_user_is_a_number(self):
        self.start()
        for user in ("", "root", "1000x", "0:0:0", "-1", "4294967296", " 0"):
            r = self.oci("exec", "--user", user, self.id, "id")
            self.assertNotEqual(r.returncode, 0, user)
        self.assertEqual(self.oci("exec", "-u", "1000:5", self.id, "id").stdout.split()[:2], ["uid=1000", "gid=5"])

    def test_the_joining_process_shows_nothing(self):
        self.start("sh", "-c", "while true; do for p in /proc/[2-9]*; do ls -l $p/fd $p/exe >> /seen 2>/dev/null; done; done")
        for _ in range(30):
            self.oci("exec", self.id, "true")
        seen = open(self.root + "/seen").read() if os.path.exists(self.root + "/seen") else ""
        self.assertNotIn("knarr", seen)
        self.assertNotIn(self.state, seen)


if __name__ == "__main__":
    unittest.main(verbosity=2)
