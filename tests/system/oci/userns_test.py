#!/usr/bin/env python3
"""User and time namespaces, idmapped mounts, mount options and propagation, by knarr-oci: looked at from inside the
container and from the kernel."""
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import oci_test  # noqa: E402

UIDS = [{"containerID": 0, "hostID": 300000, "size": 65536}]
GIDS = [{"containerID": 0, "hostID": 400000, "size": 65536}]
ALL = ["CAP_SYS_ADMIN", "CAP_CHOWN", "CAP_NET_ADMIN", "CAP_SETUID", "CAP_SETGID", "CAP_DAC_OVERRIDE", "CAP_MKNOD", "CAP_KILL"]


@unittest.skipUnless(os.geteuid() == 0, "needs root")
class Userns(unittest.TestCase):
    tearDown, oci, write, run_it, sh, start = (getattr(oci_test.Oci, n) for n in
                                               "tearDown oci write run_it sh start".split())

    devices = 0

    def setUp(self):
        oci_test.Oci.setUp(self)
        os.chmod(self.top, 0o711)

    def user(self, own=True):
        """A new user namespace, and a root that is its own."""
        linux = self.config["linux"]
        linux["namespaces"] = linux["namespaces"] + [{"type": "user"}]
        linux["uidMappings"], linux["gidMappings"] = UIDS, GIDS
        if own:
            subprocess.run(["chown", "-Rh", "300000:400000", self.root], check=True)

    def can(self, *names):
        self.config["process"]["capabilities"] = {k: list(names or ALL) for k in ("bounding", "effective", "permitted")}

    def bind(self, to, *options, source=None, **more):
        source = source or self.top + "/src"
        os.makedirs(source, exist_ok=True) if not os.path.exists(source) else None
        self.config["mounts"].append({"destination": to, "type": "bind", "source": source, "options": ["bind", *options], **more})
        return source

    # --- user namespaces ---------------------------------------------------------------------------

    def test_a_new_one_with_maps(self):
        self.user()
        out = self.sh("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; stat -c %u:%g / /dev /dev/pts /dev/shm; "
                      "echo x >/made; echo y >/dev/null; hostname; head -c 1 /dev/zero | wc -c; ls -d /sys/class/net/lo")
        self.assertEqual(out.split(), "0 0 0 300000 65536 0 400000 65536 0:0 0:0 0:0 0:0 boat 1 /sys/class/net/lo".split())
        st = os.stat(self.root + "/made")
        self.assertEqual((st.st_uid, st.st_gid), (300000, 400000))

    def test_namespaces_belong_to_it(self):
        self.user()
        self.can()
        out = self.sh("hostname ours && hostname; mount -t tmpfs none /mnt 2>&1 || mkdir /mnt && mount -t tmpfs none /mnt && "
                      "echo mounted; echo 1 > /proc/sys/net/ipv4/ip_forward 2>&1; cat /proc/sys/net/ipv4/ip_forward", )
        self.assertIn("ours", out)
        self.assertIn("mounted", out)

    def test_the_host_is_out_of_reach(self):
        self.user()
        self.can()
        with open(self.root + "/hosts", "w") as f:
            f.write("host's\n")  # owned by the host's root
        os.chmod(self.root + "/hosts", 0o600)
        out = self.sh("cat /hosts; mknod /n c 1 3; stat -c %u /hosts; grep CapEff /proc/self/status", want=0)
        self.assertNotIn("host's", out)
        self.assertIn("65534", out)
        self.assertFalse(os.path.exists(self.root + "/n"))

    def test_exec_kill_and_a_user(self):
        self.user()
        self.start("sleep", "1000")
        pid = json.loads(self.oci("state", self.id).stdout)["pid"]
        self.assertEqual(os.stat(f"/proc/{pid}").st_uid, 300000)
        out = self.oci("exec", "--user", "1000:1001", self.id, "sh", "-c", "id -u; id -g; readlink /proc/self/ns/user")
        self.assertEqual(out.stdout.split(), ["1000", "1001", os.readlink(f"/proc/{pid}/ns/user")], out.stderr)
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/user"), os.readlink("/proc/self/ns/user"))
        # The other namespaces are its own: by one of them, another container of the same joins.
        for ns in ("net", "ipc", "uts", "pid"):
            self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/{ns}"), os.readlink(f"/proc/self/ns/{ns}"))

    def test_a_created_container_starts_as_its_user(self):
        self.config["process"]["user"] = {"uid": 1000, "gid": 1000}
        self.config["process"]["capabilities"] = {}
        self.start("sleep", "1000")
        self.assertEqual(self.oci("exec", self.id, "id", "-u").stdout, "1000\n")

    def test_joined_by_path(self):
        self.user()
        self.start("sleep", "1000")
        pid = json.loads(self.oci("state", self.id).stdout)["pid"]
        other, first = self.top + "/b2", self.id
        os.mkdir(other)
        kinds = {"network": "net", "ipc": "ipc", "uts": "uts", "user": "user", "pid": "pid"}
        config = json.loads(json.dumps(self.config))
        config["root"]["path"] = self.root
        config["linux"]["namespaces"] = [{"type": "mount"}, {"type": "cgroup"}] + [
            {"type": t, "path": f"/proc/{pid}/ns/{n}"} for t, n in kinds.items()]
        config["process"]["args"] = ["sh", "-c", "id -u; for n in net ipc uts user pid; do readlink /proc/self/ns/$n; done; hostname"]
        del config["hostname"]
        with open(other + "/config.json", "w") as f:
            json.dump(config, f)
        r = self.oci("run", "-b", other, first + "-2")
        self.assertEqual(r.stdout.split(), ["0"] + [os.readlink(f"/proc/{pid}/ns/{n}") for n in ("net", "ipc", "uts", "user", "pid")] +
                         ["boat"], r.stderr)

    def test_a_terminal_pipes_and_hooks(self):
        self.user()
        log = self.top + "/hook"
        self.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {log}"]}]}
        self.assertEqual(self.sh("echo again > /proc/self/fd/1"), "again\n")
        self.assertGreater(json.load(open(log))["pid"], 1)

    def test_limits_and_masks(self):
        self.user()
        self.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 300, "soft": 200}]
        self.config["process"]["oomScoreAdj"] = 500
        out = self.sh("ulimit -n; cat /proc/self/oom_score_adj; cat /proc/timer_list; echo x > /proc/sys/kernel/msgmax || echo kept")
        self.assertEqual(out.split(), ["200", "500", "kept"])

    def test_maps_that_cannot_be(self):
        self.user()
        for key, value, text in (("uidMappings", [], "linux.uidMappings: the container's id 0 is not mapped"),
                                 ("gidMappings", [dict(GIDS[0], size=0)], "linux.gidMappings[0].size"),
                                 ("uidMappings", UIDS + UIDS, "linux.uidMappings[1] overlaps linux.uidMappings[0]")):
            good, self.config["linux"][key] = self.config["linux"][key], value
            self.assertIn(text, self.run_it("true", want=1))
            self.config["linux"][key] = good
        self.config["process"]["user"]["uid"] = 100000
        self.assertIn("100000", self.run_it("true", want=1))

    # --- rootless ------------------------------------------------------------------------------------

    def rootless(self, *args, **kw):
        """knarr-oci by nobody, who has a range of ids in a mount namespace where /etc/subuid says so."""
        with open(self.top + "/sub", "w") as f:
            f.write("nobody:500000:65536\n")
        script = (f"mount --bind {self.top}/sub /etc/subuid && mount --bind {self.top}/sub /etc/subgid && "
                  "exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$@\"")
        return subprocess.run(["unshare", "-m", "sh", "-c", script, "-", oci_test.OCI, "--root", self.top + "/mine", *args],
                              text=True, timeout=60, cwd=self.top, stdin=subprocess.DEVNULL,
                              env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, **({"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kw))

    def mine(self):
        subprocess.run(["chown", "-Rh", "65534:65534", self.top], check=True)

    def test_rootless_by_its_own_spec(self):
        self.mine()
        r = self.rootless("spec", "--rootless")
        self.assertEqual(r.returncode, 0, r.stderr)
        config = json.load(open(self.top + "/config.json"))
        config["process"]["terminal"] = False
        config["process"]["args"] = ["sh", "-c", "id -u; cat /proc/self/uid_map; echo x > /dev/null; hostname; exit 7"]
        config["root"]["readonly"] = False
        with open(self.top + "/config.json", "w") as f:
            json.dump(config, f)
        r = self.rootless("run", self.id)
        self.assertEqual((r.returncode, r.stdout.split()), (7, ["0", "0", "65534", "1", "knarr"]), r.stderr)

    @unittest.skipUnless(shutil.which("newuidmap"), "needs newuidmap (package uidmap)")
    def test_rootless_with_newuidmap_and_exec(self):
        linux = self.config["linux"]
        linux["namespaces"] = linux["namespaces"] + [{"type": "user"}]
        for key in ("uidMappings", "gidMappings"):
            linux[key] = [{"containerID": 0, "hostID": 65534, "size": 1}, {"containerID": 1, "hostID": 500000, "size": 65535}]
        self.config["mounts"] = [m for m in self.config["mounts"] if m["type"] != "cgroup"]
        self.config["process"]["args"] = ["sleep", "1000"]
        self.write()
        self.mine()
        with open(self.top + "/err", "w") as err:
            r = self.rootless("run", "-d", self.id, stdout=err, stderr=err)
        self.assertEqual(r.returncode, 0, open(self.top + "/err").read())
        r = self.rootless("exec", "--user", "5:6", self.id, "sh", "-c", "id -u; id -g; wc -l < /proc/self/uid_map; hostname")
        self.assertEqual(r.stdout.split(), ["5", "6", "2", "boat"], r.stderr)
        self.assertEqual(self.rootless("delete", "-f", self.id).returncode, 0)

    # --- idmapped mounts ---------------------------------------------------------------------------

    def test_a_mount_with_a_map_of_its_own(self):
        source = self.bind("/m", uidMappings=[{"containerID": 0, "hostID": 77, "size": 10}],
                           gidMappings=[{"containerID": 0, "hostID": 88, "size": 10}])
        self.can()
        out = self.sh("stat -c %u:%g /m; echo x > /m/new || echo nobody there")
        self.assertEqual(out.split(), ["77:88", "nobody", "there"])
        self.assertEqual(os.stat(source).st_uid, 0)
        self.config["process"]["user"] = {"uid": 79, "gid": 89}
        self.config["process"]["capabilities"] = {}
        os.chmod(source, 0o777)
        self.sh("echo y > /m/mine")
        self.assertEqual((os.stat(source + "/mine").st_uid, os.stat(source + "/mine").st_gid), (2, 1))

    def test_a_mount_with_the_containers_map(self):
        self.user()
        source = self.bind("/m", "idmap")
        out = self.sh("stat -c %u:%g /m; echo x > /m/new; stat -c %u /m/new")
        self.assertEqual(out.split(), ["0:0", "0"])
        self.assertEqual(os.stat(source + "/new").st_uid, 0)

    def test_a_map_goes_down_the_tree_with_ridmap_only(self):
        self.user()
        source = self.bind("/m", "rbind", "ridmap")
        os.makedirs(source + "/sub")
        subprocess.run(["mount", "-t", "tmpfs", "none", source + "/sub"], check=True)
        try:
            self.assertEqual(self.sh("stat -c %u /m /m/sub").split(), ["0", "0"])
            self.config["mounts"][-1]["options"] = ["rbind", "idmap"]
            self.assertEqual(self.sh("stat -c %u /m /m/sub").split(), ["0", "65534"])
        finally:
            subprocess.run(["umount", source + "/sub"], check=True)

    def test_maps_of_mounts_that_cannot_be(self):
        self.bind("/m", "idmap")
        self.assertIn("mounts: /m: the option idmap without uidMappings", self.run_it("true", want=1))
        self.config["mounts"][-1] = {"destination": "/m", "type": "tmpfs", "options": ["idmap"]}
        self.assertIn("mounts: /m: only a bind mount can be idmapped", self.run_it("true", want=1))
        self.config["mounts"][-1] = {"destination": "/m", "type": "bind", "source": "/proc/self", "options": ["bind"],
                                     "uidMappings": UIDS, "gidMappings": GIDS}
        self.assertIn("mounts: /m: idmap a mount", self.run_it("true", want=1))

    # --- time and cgroup namespaces ----------------------------------------------------------------

    def test_time_offsets(self):
        self.config["linux"]["namespaces"] = self.config["linux"]["namespaces"] + [{"type": "time"}]
        self.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1000}, "boottime": {"secs": 7777777, "nanosecs": 5}}
        script = "cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets"
        uptime = float(open("/proc/uptime").read().split()[0])
        for user in (False, True):
            if user:
                self.user()
            out = self.run_it("busybox", "sh", "-c", script).split()
            self.assertAlmostEqual(int(out[0]) - 7777777, uptime, delta=60)
            self.assertEqual(out[1:], ["monotonic", "1000", "0", "boottime", "7777777", "5"])
        self.config["process"]["args"] = ["sleep", "1000"]
        self.start("sleep", "1000")
        r = self.oci("exec", self.id, "busybox", "cut", "-d.", "-f1", "/proc/uptime")
        self.assertAlmostEqual(int(r.stdout or 0) - 7777777, uptime, delta=120, msg=r.stderr)
        pid = json.loads(self.oci("state", self.id).stdout)["pid"]
        self.config["linux"]["namespaces"][-2] = {"type": "time", "path": f"/proc/{pid}/ns/time"}
        self.config["linux"]["namespaces"].pop()
        del self.config["linux"]["timeOffsets"], self.config["linux"]["uidMappings"], self.config["linux"]["gidMappings"]
        subprocess.run(["chown", "-Rh", "0:0", self.root], check=True)
        self.write()
        first, self.id = self.id, self.id + "-2"
        out = self.run_it("busybox", "sh", "-c", script).split()
        self.id = first
        self.assertAlmostEqual(int(out[0]) - 7777777, uptime, delta=120)

    def test_offsets_need_a_namespace(self):
        self.config["linux"]["timeOffsets"] = {"monotonic": {"secs": 1}}
        self.assertIn("linux.timeOffsets: there is no new time namespace", self.run_it("true", want=1))

    # --- interfaces ----------------------------------------------------------------------------------

    def device(self):
        """An interface of the host's, with addresses; it goes with whoever has it."""
        Userns.devices += 1
        name = f"kn{os.getpid() % 100000}x{Userns.devices}"
        for line in (f"link add {name} type veth peer name {name}p", f"addr add 198.51.100.7/25 dev {name}", f"link set {name} up",
                     f"-6 addr add 2001:db8::7/64 dev {name} nodad"):
            subprocess.run(["ip", *line.split()], check=True)
        self.addCleanup(subprocess.run, ["ip", "link", "del", name + "p"], capture_output=True)
        return name

    def test_a_network_device_moves_in(self):
        name = self.device()
        script = "busybox ip addr show dev moved; busybox ip link show dev moved"
        for user in (False, True):
            if user:
                self.user()
                name = self.device()
            self.config["linux"]["netDevices"] = {name: {"name": "moved"}}
            out = self.sh(script)
            for want in ("inet 198.51.100.7/25", "inet6 2001:db8::7/64", "UP"):
                self.assertIn(want, out)
            self.assertFalse(name in [n for _, n in socket.if_nameindex()])

    def test_a_network_device_that_cannot(self):
        self.config["linux"]["netDevices"] = {"kn-none": {}}
        self.assertIn("linux.netDevices.kn-none: there is no network interface kn-none", self.run_it("true", want=1))
        name = self.device()
        self.config["linux"]["netDevices"] = {name: {"name": "lo"}}
        self.assertIn(f"linux.netDevices.{name}: there is a network interface lo", self.run_it("true", want=1))
        self.assertTrue(name in [n for _, n in socket.if_nameindex()])

    # --- mount options -------------------------------------------------------------------------------

    def options(self, at, text):
        """The mount's options as the kernel tells them inside."""
        return [l.split()[5] for l in text.splitlines() if l.split()[4:5] == [at]][0].split(",")

    def test_options_of_one_mount_and_of_the_tree(self):
        source = self.bind("/m", "rbind", "rro", "rnosuid", "rnodev", "rnoexec", "rnoatime", "rnosymfollow")
        os.makedirs(source + "/sub")
        subprocess.run(["mount", "-t", "tmpfs", "none", source + "/sub"], check=True)
        try:
            out = self.sh("cat /proc/self/mountinfo")
            for at in ("/m", "/m/sub"):
                self.assertLessEqual({"ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow"}, set(self.options(at, out)))
            self.config["mounts"][-1]["options"] = ["rbind", "ro", "nosuid", "nodev", "noexec", "nodiratime", "strictatime"]
            out = self.sh("cat /proc/self/mountinfo")
            self.assertLessEqual({"ro", "nosuid", "nodev", "noexec", "nodiratime"}, set(self.options("/m", out)))
            self.assertNotIn("relatime", self.options("/m", out))
            self.assertIn("rw", self.options("/m/sub", out))
            self.config["mounts"][-1]["options"] = ["rbind", "rro", "rratime", "rrw", "rexec", "rdev", "rsuid"]
            self.assertIn("rw", self.options("/m/sub", self.sh("cat /proc/self/mountinfo")))
        finally:
            subprocess.run(["umount", source + "/sub"], check=True)

    def test_tmpcopyup(self):
        os.makedirs(self.root + "/etc/sub/deep")
        with open(self.root + "/etc/file", "w") as f:
            f.write("up\n")
        os.chmod(self.root + "/etc/file", 0o4750)
        os.chown(self.root + "/etc/sub", 12, 13)
        os.symlink("../file", self.root + "/etc/sub/link")
        self.config["mounts"].append({"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup", "ro"]})
        out = self.sh("cat /etc/sub/link; stat -c %a /etc/file; stat -c %u:%g /etc/sub; ls -d /etc/sub/deep; "
                      "echo x > /etc/new || echo kept; readlink /etc/sub/link")
        self.assertEqual(out.split(), ["up", "750" if os.stat(self.root + "/etc/file").st_mode & 0o4000 == 0 else "4750", "12:13",
                                       "/etc/sub/deep", "kept", "../file"])
        self.config["mounts"][-1]["type"] = "proc"
        self.assertIn("mounts: /etc: tmpcopyup is for a tmpfs", self.run_it("true", want=1))

    def test_a_file_and_a_link_are_bound(self):
        with open(self.top + "/one", "w") as f:
            f.write("content\n")
        self.bind("/deep/er/file", "ro", source=self.top + "/one")
        self.assertEqual(self.sh("cat /deep/er/file; echo x > /deep/er/file || echo kept").split(), ["content", "kept"])

    def test_propagation_of_the_root(self):
        fields = {"shared": "shared:", "rshared": "shared:", "slave": None, "rslave": None, "private": None, "rprivate": None,
                  "unbindable": "unbindable", "runbindable": "unbindable"}
        for user in (False, True):
            if user:
                self.user()
            for word, field in fields.items():
                self.config["linux"]["rootfsPropagation"] = word
                line = [l for l in self.sh("cat /proc/self/mountinfo").splitlines() if l.split()[4] == "/"][0]
                tags = line.split(" - ")[0].split()[6:]
                if field:
                    self.assertTrue(any(t.startswith(field) for t in tags), (word, line))
                else:
                    self.assertFalse([t for t in tags if t.startswith(("shared", "unbindable"))], (word, line))

    def test_features_tell_of_it(self):
        linux = json.loads(self.oci("features").stdout)["linux"]
        self.assertLessEqual({"user", "time", "cgroup"}, set(linux["namespaces"]))
        self.assertTrue(linux["mountExtensions"]["idmap"]["enabled"])


if __name__ == "__main__":
    unittest.main()
