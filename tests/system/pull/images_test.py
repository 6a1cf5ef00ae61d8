#!/usr/bin/env python3
"""Images pulled whole, through image_pull(), knarr-pull and knarr-unpack, from Debian's docker-registry and a
front that misbehaves."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import images  # noqa: E402
import registry  # noqa: E402
from agent import wait_until  # noqa: E402
from proxy import Front, on, times  # noqa: E402

BUILD = pathlib.Path(os.environ["KNARR_BUILD"])
DRIVER = BUILD / "tests/system/images_driver"
BIG = os.urandom(4 << 20)


def image(seed, **how):
    return images.Image([images.layer([("big", BIG), ("etc", None)]), images.layer([("etc/name", seed.encode())]),
                         images.layer([("etc/name", seed.encode())])], **how)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.registry = cls.enterClassContext(registry.Registry())
        cls.one, cls.two = image("one"), image("two", kinds=images.DOCKER)
        cls.one_digest = cls.one.push(cls.registry.address, "a/one", "1")
        cls.two_digest = cls.two.push(cls.registry.address, "a/two", "1")

    def setUp(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-images-"))
        self.addCleanup(shutil.rmtree, self.root)
        self.front = self.enterContext(Front(self.registry.address))
        self.addCleanup(self.no_processes)

    def no_processes(self):
        """None of this build's helpers is left, a moment after their parent has gone."""
        wait_until(lambda: not [p for p in pathlib.Path("/proc").glob("[0-9]*/exe") if self.is_helper(p)])

    @staticmethod
    def is_helper(exe):
        try:
            return os.readlink(exe).startswith(str(BUILD / "src/image/knarr-"))
        except OSError:
            return False

    def command(self, *words, **options):
        args = [f"--{k}={v}" for k, v in options.items()]
        return [DRIVER, "--root", self.root, "--libexec", BUILD / "src/image", *args, *words]

    def run_driver(self, *words, **options):
        run = subprocess.run(self.command(*words, **options), capture_output=True, text=True, timeout=120)
        self.assertEqual(run.returncode, 0, run.stderr)
        lines = run.stdout.splitlines()
        return [x for x in lines if not x.startswith("image ")], [x.split()[1:] for x in lines if x.startswith("image ")]

    def is_whole(self, *wanted):
        """The layout holds just these images' blobs, the layers are unpacked, nothing is half done."""
        blobs = {d for i in wanted for d in [*i.blobs, images.digest(i.manifest)]}
        self.assertEqual({f"sha256:{p.name}" for p in (self.root / "content/blobs/sha256").iterdir()}, blobs)
        self.assertEqual(list((self.root / "content/ingest").iterdir()), [])
        for blob in blobs:
            self.assertEqual(images.digest((self.root / "content/blobs/sha256" / blob[7:]).read_bytes()), blob)
        diffs = {d for i in wanted for d in json.loads(i.blobs[i.id])["rootfs"]["diff_ids"]}
        for diff in diffs:
            self.assertTrue((self.root / "layers" / diff[7:]).is_dir(), diff)


class Pull(Case):
    def test_an_image_is_there_and_stays(self):
        reference = f"{self.registry.address}/a/one:1"
        said, there = self.run_driver(reference)
        self.assertEqual(said, [f"ok {self.one.id}"])
        names = {reference, f"{self.registry.address}/a/one@{self.one_digest}"}
        self.assertEqual([(i[0], set(i[1:])) for i in there], [(self.one.id, names)])
        self.is_whole(self.one)
        said, there = self.run_driver()
        self.assertEqual([i[0] for i in there], [self.one.id])
        index = json.loads((self.root / "content/index.json").read_text())
        self.assertIn(reference, [m.get("annotations", {}).get("org.opencontainers.image.ref.name") for m in index["manifests"]])

    def test_the_layout_is_what_others_read(self):
        self.run_driver(f"{self.registry.address}/a/one:1")
        content, name = self.root / "content", f"{self.registry.address}/a/one:1"
        run = lambda *words: subprocess.run(words, capture_output=True, text=True)
        out = run("skopeo", "copy", f"oci:{content}:{name}", f"dir:{self.root}/copied")
        self.assertEqual(out.returncode, 0, out.stderr)
        out = run("umoci", "ls", "--layout", content)
        self.assertEqual((out.returncode, out.stdout), (0, name + "\n"), out.stderr)
        out = run("umoci", "raw", "unpack", "--image", f"{content}:{name}", f"{self.root}/unpacked")
        self.assertEqual(out.returncode, 0, out.stderr)
        self.assertTrue(os.listdir(f"{self.root}/unpacked"))

    def test_again_fetches_nothing(self):
        self.run_driver(f"{self.front.address}/a/one:1")
        self.front.seen.clear()
        said, _ = self.run_driver(f"{self.front.address}/a/one:1")
        self.assertEqual(said, [f"ok {self.one.id}"])
        self.assertEqual([m for m, _, _ in self.front.seen], ["HEAD"])

    def test_an_index_gives_this_machine_s(self):
        other = image("other", arch="s390x")
        other.push(self.registry.address, "a/one", "other")
        digest = images.push_index(self.registry.address, "a/one", "index", [other.descriptor("s390x"), self.one.descriptor()])
        said, there = self.run_driver(f"{self.registry.address}/a/one:index")
        self.assertEqual(said, [f"ok {self.one.id}"])
        self.assertIn(f"{self.registry.address}/a/one@{digest}", there[0])
        said, _ = self.run_driver(f"{self.registry.address}/a/one@{digest}")
        self.assertEqual(said, [f"ok {self.one.id}"])
        said, _ = self.run_driver(f"{self.registry.address}/a/one:other")
        self.assertRegex(said[0], "^error not found: .*made for linux/s390x")

    def test_zstd_and_plain_layers(self):
        for kind in ("zstd", "plain"):
            made = image(kind, compress=kind)
            made.push(self.registry.address, "a/kinds", kind)
            said, _ = self.run_driver(f"{self.registry.address}/a/kinds:{kind}")
            self.assertEqual(said, [f"ok {made.id}"])

    def test_an_image_without_layers(self):
        empty = images.Image([])
        empty.push(self.registry.address, "a/empty", "1")
        said, _ = self.run_driver(f"{self.registry.address}/a/empty:1")
        self.assertEqual(said, [f"ok {empty.id}"])

    def test_removed_and_pulled_again(self):
        reference = f"{self.registry.address}/a/one:1"
        _, there = self.run_driver(reference, remove=reference)
        self.assertEqual(there, [])
        said, there = self.run_driver(reference)
        self.assertEqual(said, [f"ok {self.one.id}"])
        self.is_whole(self.one)


class Together(Case):
    def test_the_same_pull_runs_once(self):
        said, _ = self.run_driver(f"{self.front.address}/a/one:1", times=8)
        self.assertEqual(said, [f"ok {self.one.id}"] * 8)
        gets = [p for m, p, _ in self.front.seen if m == "GET" and "/blobs/" in p]
        self.assertEqual(len(gets), len(set(gets)))
        self.assertEqual(sum(m == "HEAD" for m, _, _ in self.front.seen), 1)

    def test_a_layer_that_two_images_share_is_fetched_once(self):
        said, there = self.run_driver(f"{self.front.address}/a/one:1", f"{self.front.address}/a/two:1", times=3)
        self.assertEqual(sorted(set(said)), sorted([f"ok {self.one.id}", f"ok {self.two.id}"]))
        shared = json.loads(self.one.manifest)["layers"][0]["digest"]
        self.assertEqual(sum(m == "GET" and shared in p for m, p, _ in self.front.seen), 1)
        self.is_whole(self.one, self.two)

    def test_a_pull_that_fails_leaves_the_other_alone(self):
        own = json.loads(self.two.manifest)["layers"][1]["digest"]
        self.front.rule = on(own, lambda h: h.reply(404))
        said, there = self.run_driver(f"{self.front.address}/a/one:1", f"{self.front.address}/a/two:1")
        self.assertEqual(said[0], f"ok {self.one.id}")
        self.assertRegex(said[1], "^error not found: .*404")
        self.assertEqual([i[0] for i in there], [self.one.id])


class Faults(Case):
    def fails(self, text, reference="a/one:1", **options):
        said, there = self.run_driver(f"{self.front.address}/{reference}", **options)
        self.assertRegex(said[0], text)
        self.assertEqual(there, [])
        # Layers that were whole before it failed stay for the next try, until the next start.
        said, there = self.run_driver()
        self.assertEqual([p.name for p in (self.root / "layers").iterdir() if len(p.name) == 64], [])

    def big(self):
        return json.loads(self.one.manifest)["layers"][0]["digest"]

    def test_wrong_bytes(self):
        self.front.rule = on(self.big(), lambda h: h.forward(lambda b: b[:1000] + b"!" + b[1001:]))
        self.fails("^error corrupt: .*has the digest")
        self.assertEqual([p.name for p in (self.root / "content/ingest").iterdir() if self.big()[7:] in p.name], [])
        self.front.rule = lambda h: False
        said, _ = self.run_driver(f"{self.front.address}/a/one:1")
        self.assertEqual(said, [f"ok {self.one.id}"])

    def test_a_layer_that_is_no_archive(self):
        bad = images.Image([b"this is no tar" * 1000])
        bad.push(self.registry.address, "a/bad", "1")
        self.fails("^error (corrupt|invalid): .*(layer|unpack)", "a/bad:1")

    def test_a_wrong_diff_id(self):
        bad = images.Image([images.layer([("f", b"1")])])
        config = bad.blobs.pop(bad.id)
        diff = json.loads(config)["rootfs"]["diff_ids"][0]
        lie = config.replace(diff.encode(), b"sha256:" + b"0" * 64)
        bad.blobs[images.digest(lie)] = lie
        bad.manifest = bad.manifest.replace(bad.id.encode(), images.digest(lie).encode())
        bad.push(self.registry.address, "a/lie", "1")
        self.fails("^error corrupt: .*layer", "a/lie:1")

    def test_a_deadline_ends_the_pull(self):
        self.front.rule = on(self.big(), lambda h: not self.front.ending.wait(5))
        began = time.monotonic()
        self.fails("^error timeout: pull", timeout="1s")
        self.assertLess(time.monotonic() - began, 4)

    def test_a_killed_pull_goes_on_by_range(self):
        def half(handler):
            _, _, body = handler.ask()
            handler.reply(200, body[:2 << 20], length=len(body))
            handler.wfile.flush()
            return not self.front.ending.wait(20)

        self.front.rule = on(self.big(), times(1, half))
        p = subprocess.Popen(self.command(f"{self.front.address}/a/one:1"), stdout=subprocess.DEVNULL)
        ingest = self.root / "content/ingest"
        wait_until(lambda: ingest.is_dir() and any(f.stat().st_size >= 2 << 20 for f in ingest.iterdir()))
        p.send_signal(signal.SIGKILL)
        p.wait()
        self.no_processes()
        said, _ = self.run_driver(f"{self.front.address}/a/one:1")
        self.assertEqual(said, [f"ok {self.one.id}"])
        self.assertIn(f"bytes={2 << 20}-", [h.get("Range") for _, _, h in self.front.seen])
        self.is_whole(self.one)

    def test_what_lies_wrong_in_the_ingest_file_is_fetched_afresh(self):
        (self.root / "content/ingest").mkdir(parents=True)
        (self.root / "content/ingest" / self.big()[7:]).write_bytes(b"wrong" * 1000)
        said, _ = self.run_driver(f"{self.front.address}/a/one:1")
        self.assertEqual(said, [f"ok {self.one.id}"])
        self.is_whole(self.one)

    @unittest.skipIf(os.geteuid() != 0, "mounting a small file system needs root")
    def test_a_full_disk(self):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", self.root], check=True)
        try:
            said, there = self.run_driver(f"{self.front.address}/a/one:1")
            self.assertRegex(said[0], "^error exhausted: .*No space left")
            self.assertEqual(there, [])
            subprocess.run(["mount", "-o", "remount,size=40m", self.root], check=True)
            said, there = self.run_driver(f"{self.front.address}/a/one:1")
            self.assertEqual(said, [f"ok {self.one.id}"])
        finally:
            subprocess.run(["umount", self.root], check=True)

    def test_no_program_there(self):
        run = subprocess.run([DRIVER, "--root", self.root, "--libexec", "/nonexistent", f"{self.front.address}/a/one:1"],
                             capture_output=True, text=True, timeout=30)
        self.assertRegex(run.stdout, "error not found: .*knarr-pull")


if __name__ == "__main__":
    unittest.main(verbosity=2)
