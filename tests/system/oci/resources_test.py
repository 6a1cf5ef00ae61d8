#!/usr/bin/env python3
"""linux.resources: what config.json and `update` say is what the kernel's files hold, and wrong values are refused by
name. On whatever cgroup version this machine has."""
import glob
import json
import os
import time
import unittest

from oci_test import NS, V2, Bundle, controller

BLOCK = sorted(glob.glob("/sys/block/*/dev"))


class Resources(Bundle):
    def kernel(self, v1_controller, v1_file, v2_file):
        """The file of our cgroup, its first line."""
        path = f"/sys/fs/cgroup/{self.id}/{v2_file}" if V2 else f"/sys/fs/cgroup/{v1_controller}/{self.id}/{v1_file}"
        return open(path).read().strip()

    def set(self, **resources):
        self.config["linux"]["resources"].update(resources)

    def update(self, *args, **kw):
        r = self.oci("update", *args, self.id, **kw)
        self.assertEqual(r.returncode, 0, r.stderr)

    def stop(self):
        self.assertEqual(self.oci("delete", "-f", self.id).returncode, 0)

    def refused(self, word, **resources):
        before = dict(self.config["linux"]["resources"])
        self.set(**resources)
        self.assertIn(word, self.run_it("true", want=1))
        self.config["linux"]["resources"] = before

    @unittest.skipUnless(controller("memory"), "this kernel has no memory controller")
    def test_memory(self):
        self.set(memory={"limit": 64 << 20, "reservation": 32 << 20, "swap": 96 << 20})
        self.start()
        self.assertEqual(self.kernel("memory", "memory.limit_in_bytes", "memory.max"), str(64 << 20))
        self.assertEqual(self.kernel("memory", "memory.soft_limit_in_bytes", "memory.low"), str(32 << 20))
        swap = f"/sys/fs/cgroup/{self.id}/memory.swap.max" if V2 else f"/sys/fs/cgroup/memory/{self.id}/memory.memsw.limit_in_bytes"
        if os.path.exists(swap):
            self.assertEqual(open(swap).read().strip(), str((32 if V2 else 96) << 20))
        # up and down, limit and swap crossing each other
        self.update("--memory", "128m", "--memory-swap", "256m", "--memory-reservation", "16m")
        self.assertEqual(self.kernel("memory", "memory.limit_in_bytes", "memory.max"), str(128 << 20))
        self.assertEqual(self.kernel("memory", "memory.soft_limit_in_bytes", "memory.low"), str(16 << 20))
        self.update("--memory", "32m", "--memory-swap", "64m")
        self.assertEqual(self.kernel("memory", "memory.limit_in_bytes", "memory.max"), str(32 << 20))
        self.update("--memory", "-1")
        self.assertIn(self.kernel("memory", "memory.limit_in_bytes", "memory.max"), ("max", "9223372036854771712"))
        r = self.oci("update", "-r", "-", self.id, input=json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}}), stdin=None)
        self.assertIn("below the", r.stderr)
        self.update("-r", "-", input=json.dumps({"memory": {"limit": 80 << 20}}), stdin=None)
        self.assertEqual(self.kernel("memory", "memory.limit_in_bytes", "memory.max"), str(80 << 20))
        self.assertIn("line 1 column", self.oci("update", "-r", "-", self.id, input='{"memory": {"limit": "x"}}', stdin=None).stderr)
        self.assertIn("memory", self.oci("update", "--memory", "much", self.id).stderr)
        self.stop()
        if V2:
            self.refused("memory.swap", memory={"limit": 64 << 20, "swap": 32 << 20})
            self.refused("disableOOMKiller", memory={"disableOOMKiller": True})
        else:
            self.set(memory={"swappiness": 30, "disableOOMKiller": True})
            self.start()
            self.assertEqual(self.kernel("memory", "memory.swappiness", ""), "30")
            self.assertIn("oom_kill_disable 1", self.kernel("memory", "memory.oom_control", ""))
            self.stop()
            self.refused("linux.resources.memory.swappiness", memory={"swappiness": 101})

    @unittest.skipUnless(controller("cpu"), "this kernel has no cpu controller")
    def test_cpu(self):
        self.set(cpu={"shares": 512, "quota": 50000, "period": 100000, "burst": 10000})
        self.start()

        def now():
            if V2:
                return (self.kernel("", "", "cpu.weight"), self.kernel("", "", "cpu.max"))
            return (self.kernel("cpu", "cpu.shares", ""), self.kernel("cpu", "cpu.cfs_quota_us", "") + " " + self.kernel("cpu", "cpu.cfs_period_us", ""))

        weight = now()[0]
        self.assertEqual(now()[1], "50000 100000")
        if not V2:
            self.assertEqual(weight, "512")
        if os.path.exists(f"/sys/fs/cgroup/{self.id}/cpu.max.burst" if V2 else f"/sys/fs/cgroup/cpu/{self.id}/cpu.cfs_burst_us"):
            self.assertEqual(self.kernel("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "10000")
            self.update("--cpu-burst", "0")
            self.assertEqual(self.kernel("cpu", "cpu.cfs_burst_us", "cpu.max.burst"), "0")
        self.update("--cpu-share", "2048", "--cpu-quota", "20000", "--cpu-period", "40000")
        self.assertEqual(now()[1], "20000 40000")
        self.assertNotEqual(now()[0], weight)
        self.update("--cpu-quota", "-1")
        self.assertIn(now()[1].split()[0], ("-1", "max"))
        self.update("--cpu-idle", "1")
        self.assertEqual(self.kernel("cpu", "cpu.idle", "cpu.idle"), "1")
        self.update("--cpu-idle", "0")
        self.assertEqual(self.kernel("cpu", "cpu.idle", "cpu.idle"), "0")
        for wrong in (("--cpu-share", "-5"), ("--cpu-period", "x"), ("--cpu-quota", "1.5"), ("--cpu-idle", "yes")):
            r = self.oci("update", *wrong, self.id)
            self.assertEqual(r.returncode, 1)
            self.assertIn(wrong[0][2:], r.stderr)
        # all or nothing: a value that the kernel refuses leaves the others as they were
        before = now()
        r = self.oci("update", "--cpu-share", "100", "--cpu-quota", "5", self.id)
        self.assertEqual(r.returncode, 1, r.stderr)
        self.assertEqual(now(), before)
        if V2:
            self.stop()
            self.refused("realtimeRuntime", cpu={"realtimeRuntime": 5000})

    @unittest.skipUnless(controller("cpuset"), "this kernel has no cpuset controller")
    def test_cpuset_update(self):
        self.start()
        self.update("--cpuset-cpus", "0", "--cpuset-mems", "0")
        self.assertEqual(self.kernel("cpuset", "cpuset.cpus", "cpuset.cpus"), "0")
        self.assertEqual(self.oci("update", "--cpuset-cpus", "x", self.id).returncode, 1)

    @unittest.skipUnless(controller("pids"), "this kernel has no pids controller")
    def test_pids(self):
        self.set(pids={"limit": 7})
        self.start()
        self.assertEqual(self.kernel("pids", "pids.max", "pids.max"), "7")
        self.update("--pids-limit", "9")
        self.assertEqual(self.kernel("pids", "pids.max", "pids.max"), "9")
        self.update("--pids-limit", "-1")
        self.assertEqual(self.kernel("pids", "pids.max", "pids.max"), "max")

    @unittest.skipUnless(controller("io" if V2 else "blkio") and BLOCK, "this kernel has no controller of block I/O, or no block device")
    def test_block_io(self):
        major, minor = map(int, open(BLOCK[0]).read().split(":"))
        device = {"major": major, "minor": minor}
        self.set(blockIO={"weight": 200, "throttleReadBpsDevice": [{**device, "rate": 1048576}],
                          "throttleWriteBpsDevice": [{**device, "rate": 2097152}],
                          "throttleReadIOPSDevice": [{**device, "rate": 300}], "throttleWriteIOPSDevice": [{**device, "rate": 400}]})
        self.start()
        here = lambda name: f"{major}:{minor} {name}"
        if V2:
            self.assertEqual(sorted(self.kernel("", "", "io.max").split()), sorted(here("rbps=1048576 wbps=2097152 riops=300 wiops=400").split()))
        else:
            for name, rate in (("read_bps", 1048576), ("write_bps", 2097152), ("read_iops", 300), ("write_iops", 400)):
                self.assertEqual(self.kernel("blkio", f"blkio.throttle.{name}_device", ""), here(str(rate)))
        self.update("-r", "-", input=json.dumps({"blockIO": {"throttleReadBpsDevice": [{**device, "rate": 524288}]}}), stdin=None)
        self.assertIn("524288", self.kernel("blkio", "blkio.throttle.read_bps_device", "io.max"))
        weight = f"/sys/fs/cgroup/{self.id}/io.weight" if V2 else f"/sys/fs/cgroup/blkio/{self.id}/blkio.bfq.weight"
        self.update("--blkio-weight", "500")
        if os.path.exists(weight) and not V2:
            self.assertIn("500", open(weight).read())
        self.assertIn("blkio-weight", self.oci("update", "--blkio-weight", "5", self.id).stderr)
        self.stop()
        self.refused(":999999", blockIO={"throttleReadBpsDevice": [{"major": 1, "minor": 999999, "rate": 1}]})

    def test_unified_files(self):
        if not V2:  # beside controllers of v1 there may be a v2 mount: runc takes no files of it either
            self.refused("linux.resources.unified", unified={"cgroup.max.depth": "3"})
            return
        self.set(unified={"cgroup.max.depth": "3"})
        self.start()
        self.assertEqual(open(f"/sys/fs/cgroup/{self.id}/cgroup.max.depth").read(), "3\n")
        self.stop()
        self.refused("linux.resources.unified", unified={"../x": "3"})
        self.refused("linux.resources.unified", unified={"nodot": "3"})
        self.refused("no.such", unified={"no.such": "3"})

    def test_rdma(self):
        wish = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 1000}}
        if controller("rdma"):
            self.set(rdma=wish)
            self.assertIn("rdma", self.run_it("true", want=1))  # no such device here: the kernel's own word
        else:
            self.refused("rdma", rdma=wish)
        self.refused("hcaHandles", rdma={"mlx5_1": {"hcaHandles": "x"}})

    def test_hugetlb_of_no_such_size(self):
        self.refused("hugetlb.3MB", hugepageLimits=[{"pageSize": "3MB", "limit": 1}])

    # --- devices ---------------------------------------------------------------------------------

    def test_device_rules_decide_by_the_last_that_matches(self):
        self.config["process"]["capabilities"] = {k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")}
        self.config["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o666}]
        # opened to write, and nothing written: the kernel asks for no more there than the device rule
        script = "for d in null zero kmsg; do (: >/dev/$d) 2>/dev/null && echo -n \"$d \"; done; true"
        deny = {"allow": False, "access": "rwm"}
        for rules, seen in (([deny], "null zero"), ([deny, {"allow": True, "type": "c", "major": 1, "minor": 11, "access": "w"}], "null zero kmsg"),
                            ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "rw"}], "null zero"),
                            ([deny, {"allow": True, "type": "c", "major": 1, "access": "w"}, {"allow": False, "type": "c", "major": 1, "minor": 11, "access": "w"}], "null zero")):
            self.config["linux"]["resources"]["devices"] = rules
            if len(rules) == 3 and not V2:  # v1 has no holes in what it allows: it must not look as if
                self.assertIn("cannot deny the device c 1:11", self.run_it("true", want=1))
            else:
                self.assertEqual(self.sh(script).strip(), seen, rules)
        self.config["linux"]["resources"]["devices"] = [{"allow": True, "type": "x"}]
        self.assertIn("linux.resources.devices.type", self.run_it("true", want=1))
        self.config["linux"]["resources"]["devices"] = [{"allow": True, "type": "c", "access": "rx"}]
        self.assertIn("linux.resources.devices.access", self.run_it("true", want=1))

    def test_an_update_leaves_the_devices(self):
        script = "while true; do if [ -e /go ]; then (: >/dev/null) && echo yes > /null; (: >/dev/kmsg) 2>/dev/null && echo yes > /kmsg; touch /done; break; fi; sleep 0.05; done; sleep 1000"
        self.config["linux"]["devices"] = [{"path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11}]
        self.start("sh", "-c", script)
        self.update("-r", "-", input=json.dumps({"devices": [{"allow": True, "access": "rwm"}], "pids": {"limit": 50}}), stdin=None)
        open(self.root + "/go", "w").close()
        for _ in range(600):
            if os.path.exists(self.root + "/done"):
                break
            time.sleep(0.05)
        self.assertTrue(os.path.exists(self.root + "/null"))
        self.assertFalse(os.path.exists(self.root + "/kmsg"))

    # --- Intel RDT -------------------------------------------------------------------------------

    def test_intel_rdt(self):
        self.config["linux"]["intelRdt"] = {"enableMonitoring": True}
        mount = next((l.split()[4] for l in open("/proc/self/mountinfo") if " - resctrl " in l), None)
        if not mount:
            text = self.run_it("true", want=1)
            self.assertIn("linux.intelRdt: resctrl is not mounted", text)
            self.assertIn("does not exist", self.oci("state", self.id).stderr)
            return
        self.start()
        self.assertIn(str(json.loads(self.oci("state", self.id).stdout)["pid"]), open(f"{mount}/{self.id}/mon_groups/{self.id}/tasks").read())
        self.stop()
        self.assertFalse(os.path.exists(f"{mount}/{self.id}"))
        self.config["linux"]["intelRdt"] = {"closID": "knarr-no-such-class"}
        self.assertIn("linux.intelRdt.closID", self.run_it("true", want=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
