#!/usr/bin/env python3
"""Checkpoint and restore by knarr-oci, by the real CRIU where one is installed that runs on this kernel (KNARR_CRIU or
criu on PATH), and by a stand-in that speaks its RPC everywhere."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import unittest

from fields_test import until
from oci_test import BUILD, OCI, Bundle, cgroups

CRIU = os.environ.get("KNARR_CRIU") or shutil.which("criu")
FAKE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fake_criu.py")


def why_not():
    """Why the real one cannot be used; None: it can."""
    if not CRIU:
        return "criu is not installed"
    r = subprocess.run([CRIU, "check"], capture_output=True, text=True)
    return None if r.returncode == 0 else f"{CRIU} does not run on this kernel: {(r.stdout + r.stderr).strip().splitlines()[-1:]}"


MISSING = why_not()


class Checkpoint(Bundle):
    program = CRIU

    def setUp(self):
        super().setUp()
        self.images = self.top + "/images"
        self.extra = []

    def tearDown(self):
        for other in self.extra:
            subprocess.run([OCI, "--root", self.state, "delete", "--force", other], capture_output=True)
        left = [line for line in open("/proc/mounts") if self.top in line]
        super().tearDown()
        self.assertEqual(left, [])

    def detached(self, *args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL):
        """For what leaves a process behind that would keep our pipes open."""
        with open(self.top + "/err", "w") as err:
            r = subprocess.run([OCI, "--criu", self.program, "--root", self.state, *args], stdin=stdin, stdout=stdout, stderr=err, timeout=120)
        self.assertEqual(r.returncode, 0, open(self.top + "/err").read() + self.log("restore.log"))

    def log(self, name):
        path = f"{self.images}/{name}"
        return "".join(open(path).readlines()[-25:]) if os.path.exists(path) else ""

    def criu(self, *args, want=0):
        r = self.oci("--criu", self.program, *args, timeout=120)
        self.assertEqual(r.returncode, want, r.stdout + r.stderr + self.log("dump.log"))
        return r.stderr

    def status(self, which=None):
        r = self.oci("state", which or self.id)
        return json.loads(r.stdout)["status"] if r.returncode == 0 else None

    def count(self):
        path = self.root + "/count"
        return len(open(path).read().split()) if os.path.exists(path) else 0

    def begin(self, **kw):
        self.config["process"]["args"] = ["sh", "-c", "echo hello > /dev/shm/kept; n=0; while sleep 0.05; do echo $n >> /count; n=$((n+1)); done"]
        self.write()
        self.detached("run", "-d", "-b", self.top, self.id, **kw)
        until("counting", lambda: self.count() > 2)


@unittest.skipIf(MISSING, MISSING)
class Real(Checkpoint):
    def goes_on(self, which=None):
        at = self.count()
        until("counting goes on", lambda: self.count() > at + 2)
        numbers = [int(n) for n in open(self.root + "/count").read().split()]
        self.assertEqual(numbers, list(range(len(numbers))))
        self.assertEqual(self.oci("exec", which or self.id, "cat", "/dev/shm/kept").stdout, "hello\n")

    def test_counts_on_after_a_restore(self):
        self.begin()
        self.criu("checkpoint", "--image-path", self.images, self.id)
        self.assertIsNone(self.status())
        self.assertEqual(cgroups(), [])
        self.detached("restore", "-d", "-b", self.top, "--image-path", self.images, "--pid-file", self.top + "/pid", self.id)
        self.assertEqual(self.status(), "running")
        self.goes_on()
        pid = int(open(self.top + "/pid").read())
        self.assertIn(self.id, open(f"/proc/{pid}/cgroup").read())
        masked = self.oci("exec", self.id, "sh", "-c", "cat /proc/keys; ls /sys/firmware")
        self.assertEqual((masked.returncode, masked.stdout), (0, ""))

    def test_goes_on_beside_its_checkpoint(self):
        self.begin()
        self.criu("checkpoint", "--image-path", self.images, "--work-path", self.top + "/work", "--leave-running", self.id)
        self.assertEqual(self.status(), "running")
        self.assertTrue(os.path.exists(self.top + "/work/dump.log"))
        self.goes_on()
        self.oci("pause", self.id)
        self.criu("checkpoint", "--image-path", self.images, "--leave-running", self.id)
        self.assertEqual(self.status(), "paused")  # as it was

    def test_pre_dumps_come_first(self):
        if subprocess.run([CRIU, "check", "--feature", "mem_dirty_track"], capture_output=True).returncode:
            self.skipTest("this kernel does not track memory (CONFIG_MEM_SOFT_DIRTY)")
        self.begin()
        images, self.images = self.images, self.top + "/first"
        self.criu("checkpoint", "--image-path", self.images, "--pre-dump", self.id)
        self.assertEqual(self.status(), "running")
        self.images = images
        self.criu("checkpoint", "--image-path", self.images, "--parent-path", "../first", self.id)
        self.detached("restore", "-d", "-b", self.top, "--image-path", self.images, self.id)
        self.goes_on()

    def test_another_name_other_pipes_another_source(self):
        for name in ("a", "b"):
            os.makedirs(f"{self.top}/{name}/sub")
            open(f"{self.top}/{name}/who", "w").write(name)
        os.mkdir(self.top + "/shm")
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] != "/dev/shm"]
        self.config["mounts"] += [{"destination": "/dev/shm", "type": "bind", "source": self.top + "/shm", "options": ["bind"]},
                                  {"destination": "/deep/data", "type": "bind", "source": self.top + "/a", "options": ["rbind", "ro"]}]
        self.config["process"]["args"] = ["sh", "-c", "while sleep 0.05; do cat /deep/data/who; done"]
        self.write()
        for name, verb in (("a", ("run",)), ("b", ("restore", "--image-path", self.images))):
            r, w = os.pipe()
            self.config["mounts"][-1]["source"] = f"{self.top}/{name}"
            self.write()
            which = self.id if name == "a" else self.id + "2"
            self.extra.append(which)
            self.detached(*verb, "-d", "-b", self.top, which, stdout=w)
            os.close(w)
            self.assertEqual(os.read(r, 1), name.encode())
            if name == "a":
                self.criu("checkpoint", "--image-path", self.images, which)
            os.close(r)

    def test_a_network_namespace_by_path(self):
        holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo; exec sleep 1000"], stdout=subprocess.PIPE)
        try:
            holder.stdout.readline()
            net = f"/proc/{holder.pid}/ns/net"
            for ns in self.config["linux"]["namespaces"]:
                if ns["type"] == "network":
                    ns["path"] = net
            self.begin()
            self.criu("checkpoint", "--image-path", self.images, self.id)
            self.detached("restore", "-d", "-b", self.top, "--image-path", self.images, "--pid-file", self.top + "/pid", self.id)
            self.assertEqual(os.stat(f"/proc/{open(self.top + '/pid').read()}/ns/net").st_ino, os.stat(net).st_ino)
            self.goes_on()
        finally:
            holder.kill()
            holder.wait()

    def test_a_terminal(self):
        self.config["process"]["terminal"] = True
        self.config["process"]["args"] = ["sh", "-c", "while read line; do echo got-$line; done"]
        self.write()
        for verb in ("run",), ("restore", "--image-path", self.images):
            path = f"{self.top}/console-{verb[0]}"
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()
                self.detached(*verb, "-d", "-b", self.top, "--console-socket", path, self.id)
                peer = listener.accept()[0]
                _, fds, _, _ = socket.recv_fds(peer, 4096, 1)
                peer.close()
            os.write(fds[0], verb[0].encode() + b"\n")
            seen = b""
            while b"got-" + verb[0].encode() not in seen:
                seen += os.read(fds[0], 4096)
            if verb[0] == "run":
                self.criu("checkpoint", "--image-path", self.images, self.id)
            os.close(fds[0])

    def test_restored_in_the_foreground_to_its_end(self):
        self.config["process"]["args"] = ["sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; exit 7"]
        self.write()
        self.detached("run", "-d", "-b", self.top, self.id)
        self.criu("checkpoint", "--image-path", self.images, self.id)
        open(self.root + "/go", "w").close()
        with open(os.devnull, "r+") as null:
            r = subprocess.run([OCI, "--criu", self.program, "--root", self.state, "restore", "-b", self.top, "--image-path", self.images,
                                self.id], stdin=null, stdout=null, stderr=null, timeout=120)
        self.assertEqual(r.returncode, 7)
        self.assertIsNone(self.status())


class Fake(Checkpoint):
    def setUp(self):
        super().setUp()
        self.mode("ok")

    def mode(self, mode):
        self.program = f"{self.top}/criu-{mode}"
        with open(self.program, "w") as f:
            f.write(f"#!/bin/sh\nexec {sys.executable} {FAKE} {mode} \"$@\"\n")
        os.chmod(self.program, 0o755)

    def said(self):
        return json.load(open(self.images + "/request.json"))

    def test_dump_and_restore_by_rpc(self):
        os.mkdir(self.top + "/data")
        self.config["mounts"] += [{"destination": "/new/data", "type": "bind", "source": self.top + "/data", "options": ["bind"]}]
        self.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {self.top}/hook"]}]}
        self.begin()
        self.criu("checkpoint", "--image-path", self.images, "--tcp-established", "--file-locks", "--ext-unix-sk", "--shell-job",
                  "--manage-cgroups-mode", "full", "--page-server", "[::1]:27", self.id)
        said = self.said()
        for flag in "4", "5", "7", "8", "12":
            self.assertEqual(said[flag], [1], flag)
        self.assertEqual((said["34"], said["38"], said["11"]), ([4], [0x40000000], [["::1", 27]]))
        self.assertNotIn("3", said)
        mounts = dict(said["23"])
        self.assertEqual(mounts["/new/data"], "/new/data")
        self.assertEqual(mounts["/sys/firmware"] if os.path.isdir("/sys/firmware") else "knarr-mask-dir", "knarr-mask-dir")
        self.assertIsNone(self.status())
        self.assertEqual(len(json.load(open(self.images + "/descriptors.json"))), 3)

        os.unlink(self.top + "/hook")
        self.detached("restore", "-d", "-b", self.top, "--image-path", self.images, "--pid-file", self.top + "/pid", self.id)
        said, pid = self.said(), int(open(self.top + "/pid").read())
        self.assertEqual(dict(said["23"])["/new/data"], self.top + "/data")
        self.assertTrue(all(self.id in path for _, path in said["25"]), said["25"])
        self.assertEqual(said["26"], [1])
        hook = json.load(open(self.top + "/hook"))
        self.assertEqual((hook["pid"], hook["id"]), (pid, self.id))
        self.assertEqual(self.status(), "running")
        self.assertIn(self.id, open(f"/proc/{pid}/cgroup").read())
        os.kill(pid, signal.SIGKILL)
        until("stopped", lambda: self.status() == "stopped")
        self.assertEqual(self.oci("delete", self.id).returncode, 0)

    def test_a_pre_dump_leaves_it_running(self):
        self.begin()
        self.criu("checkpoint", "--image-path", self.images, "--pre-dump", self.id)
        self.assertEqual(self.status(), "running")
        os.mkdir(self.top + "/next")
        parent, self.images = self.images, self.top + "/next"
        self.criu("checkpoint", "--image-path", self.images, "--parent-path", "../images", "--leave-running", self.id)
        self.assertEqual((self.said()["14"], self.said()["15"], self.status()), (["../images"], [1], "running"))

    def test_what_fails_is_named_and_leaves_nothing(self):
        self.begin()
        for mode, told in (("fail", "the sea is rough"), ("silent", "without an answer"), ("rubbish", "rubbish"), ("old", "is CRIU 3.2")):
            self.mode(mode)
            self.assertIn(told, self.criu("checkpoint", "--image-path", self.images, self.id, want=1), mode)
            self.assertEqual(self.status(), "running")
        self.mode("ok")
        self.assertIn("lazy pages", self.criu("checkpoint", "--image-path", self.images, "--lazy-pages", self.id, want=1))
        self.criu("checkpoint", "--image-path", self.images, self.id)
        for mode, told in (("fail", "the sea is rough"), ("silent", "without an answer"), ("rubbish", "rubbish")):
            self.mode(mode)
            self.assertIn(told, self.criu("restore", "-b", self.top, "--image-path", self.images, self.id, want=1), mode)
            self.assertIsNone(self.status())
            self.assertEqual(cgroups(), [])

    def test_wishes_that_make_no_sense(self):
        self.begin()
        for told, *args in (("not soft, full", "--manage-cgroups-mode", "x"), ("namespace \"ipc\"", "--empty-ns", "ipc"),
                            ("ADDRESS:PORT", "--page-server", "x"), ("not relative", "--parent-path", "/x"),
                            ("No such file", "--parent-path", "x"), ("not open for writing", "--lazy-pages", "--status-fd", "77")):
            self.assertIn(told, self.criu("checkpoint", "--image-path", self.images, *args, self.id, want=1))
        r = self.oci("--criu", self.top + "/none", "checkpoint", "--image-path", self.images, self.id)
        self.assertEqual(r.returncode, 1)
        self.assertIn(self.top + "/none", r.stderr)
        r = self.oci("checkpoint", "--image-path", self.images, self.id, env={"PATH": self.top})
        self.assertIn("criu is not installed", r.stderr)
        self.oci("kill", self.id, "KILL")
        until("stopped", lambda: self.status() == "stopped")
        self.assertIn("cannot be checkpointed in stopped state", self.criu("checkpoint", "--image-path", self.images, self.id, want=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
