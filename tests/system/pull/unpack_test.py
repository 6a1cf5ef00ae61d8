#!/usr/bin/env python3
"""The real knarr-unpack on archives: those of tests/data/tar, good and hostile, those that GNU tar writes (compared with
what GNU tar unpacks), and compressed in every way."""
import gzip
import io
import json
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[1] / "data/tar"
PROGRAM = pathlib.Path(os.environ["KNARR_BUILD"]) / "src/image/knarr-unpack"
ANY, PLAIN, GZIP, ZSTD = range(4)


def unpack(source, dest, want=ANY, **limits):
    """The report; source: bytes, or a file."""
    limits = {"max_bytes": 64 << 30, "max_entries": 4000000, "max_ratio": 2000} | limits
    args = [PROGRAM, "--format", str(want), *[x for k, v in limits.items() for x in (f"--{k.replace('_', '-')}", str(v))]]
    report_read, report_write = os.pipe()
    folder = os.open(dest, os.O_RDONLY | os.O_DIRECTORY)
    with tempfile.TemporaryFile() as file:
        if isinstance(source, bytes):
            file.write(source)
            file.seek(0)
            source = file

        def fds():
            for at, fd in ((13, folder), (14, report_write)):
                os.dup2(fd, at)
            os.dup2(13, 3)
            os.dup2(14, 4)

        run = subprocess.Popen(args, stdin=source, close_fds=False, preexec_fn=fds)
        os.close(report_write)
        os.close(folder)
        with os.fdopen(report_read) as f:
            text = f.read()
        run.wait(120)
    return json.loads(text)


def look(top):
    """All that a layer is, by path: kind, owner, time, content, extended attributes, who is linked to whom."""
    seen, inodes = {}, {}
    for folder, folders, files in os.walk(os.fsencode(top)):
        for name in [*folders, *files, b""] if folder == os.fsencode(top) else [*folders, *files]:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            kind = stat.S_IFMT(st.st_mode)
            what = [kind, oct(st.st_mode), st.st_uid, st.st_gid, st.st_mtime_ns]
            if kind == stat.S_IFREG:
                what += [st.st_size, pathlib.Path(os.fsdecode(path)).read_bytes()]
            if kind == stat.S_IFLNK:
                what.append(os.readlink(path))
            if kind in (stat.S_IFCHR, stat.S_IFBLK):
                what.append(st.st_rdev)
            if kind in (stat.S_IFREG, stat.S_IFDIR):
                what.append({x: os.getxattr(path, x) for x in os.listxattr(path)})
            else:
                what.append({})
            if kind != stat.S_IFDIR:
                inodes.setdefault(st.st_ino, []).append(os.path.relpath(path, os.fsencode(top)))
            seen[os.path.relpath(path, os.fsencode(top))] = what
    links = sorted(sorted(names) for names in inodes.values() if len(names) > 1)
    return seen, links


class Case(unittest.TestCase):
    maxDiff = 4000

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-unpack-"))
        self.addCleanup(subprocess.run, ["rm", "-rf", self.dir])
        self.layer = self.folder("layer")

    def folder(self, name):
        made = self.dir / name
        made.mkdir()
        made.chmod(0o755)
        return made

    def good(self, source, *args, **options):
        report = unpack(source, self.layer, *args, **options)
        self.assertNotIn("error", report)
        return report

    def data(self, name):
        return self.good((DATA / "good" / f"{name}.tar").read_bytes())

    def same_as_tar(self, archive, *options):
        """GNU tar unpacks it to the same."""
        other = self.folder("tar")
        with open(archive, "rb") as f:
            self.good(f)
        subprocess.run(["tar", "-x", "-p", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*",
                        "--delay-directory-restore", *options, "-f", archive, "-C", other], check=True, capture_output=True)
        ours, our_links = look(self.layer)
        theirs, their_links = look(other)
        del ours[b"."], theirs[b"."]
        self.assertEqual(ours.keys(), theirs.keys())
        for path, what in theirs.items():
            self.assertEqual(ours[path], what, path)
        self.assertEqual(our_links, their_links)


class Hostile(Case):
    """Each archive of bad/ is refused with its error, and nothing lies beside the layer's folder."""

    def test_what_may_not_be_says_why(self):
        errors = dict(line.split(": ", 1) for line in (DATA / "errors").read_text().splitlines())
        self.assertEqual({f.stem for f in (DATA / "bad").glob("*.tar")}, set(errors))
        for name, wanted in errors.items():
            with self.subTest(name):
                top = self.folder(name)
                (top / "layer").mkdir()
                report = unpack((DATA / "bad" / f"{name}.tar").read_bytes(), top / "layer")
                self.assertIn(wanted, report.get("error", "no error"))
                self.assertEqual([p.name for p in top.iterdir()], ["layer"])

    def test_a_bomb_ends_at_its_ratio_and_its_bytes(self):
        member = gzip.compress(b"\0" * (8 << 20), 9, mtime=0)
        blown = tarfile.TarInfo("zeros")
        blown.size = 3 << 30
        source = gzip.compress(blown.tobuf(), mtime=0) + member * 384
        self.assertIn("grows more than 500 times", unpack(source, self.layer, max_ratio=500)["error"])
        self.assertIn("more than 1000000 bytes", unpack(source, self.layer, max_bytes=1000000)["error"])

    def test_links_planted_before_are_not_followed_out(self):
        """A link of the layer to the host's folder: what is put "in" it lies within the layer."""
        target = self.folder("target")
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as tar:
            for name, link in (("abs", str(target)), ("up", "../target"), ("deep", "abs/../../target")):
                info = tarfile.TarInfo(name)
                info.type, info.linkname = tarfile.SYMTYPE, link
                tar.addfile(info)
                tar.addfile(tarfile.TarInfo(f"{name}/evil"))
            info = tarfile.TarInfo("hard")
            info.type, info.linkname = tarfile.LNKTYPE, "abs/evil"
            tar.addfile(info)
        self.good(out.getvalue())
        self.assertEqual(list(target.iterdir()), [])
        self.assertTrue((self.layer / str(target)[1:] / "evil").exists())
        self.assertTrue((self.layer / "target/evil").exists())

    def test_names_of_every_byte(self):
        out = io.BytesIO()
        names = [bytes([b]) for b in range(1, 256) if b not in b"./"]
        with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name.decode("latin-1")))
        self.good(out.getvalue())
        self.assertEqual(sorted(os.listdir(os.fsencode(self.layer))), names)


class Good(Case):
    def text(self, path):
        return (self.layer / path).read_bytes()

    def stat(self, path):
        return os.lstat(self.layer / path)

    def test_all_of_them_are_taken(self):
        for archive in sorted((DATA / "good").glob("*.tar")):
            with self.subTest(archive.stem):
                report = unpack(archive.read_bytes(), self.folder(archive.stem))
                self.assertNotIn("error", report)

    def test_kinds(self):
        self.data("kinds")
        self.assertEqual(self.stat("d").st_mode, stat.S_IFDIR | 0o1777)
        self.assertEqual(self.stat("d/f").st_ino, self.stat("d/h").st_ino)
        self.assertEqual(os.readlink(self.layer / "d/s"), "../x")
        self.assertEqual((self.stat("null").st_mode, self.stat("null").st_rdev), (stat.S_IFCHR | 0o666, os.makedev(1, 3)))
        self.assertEqual((stat.S_IFMT(self.stat("loop").st_mode), self.stat("loop").st_rdev),
                         (stat.S_IFBLK, os.makedev(7, 200)))
        self.assertTrue(stat.S_ISFIFO(self.stat("pipe").st_mode))
        self.assertEqual(self.stat("d").st_mtime, 1000)

    def test_long_names(self):
        self.data("gnu-long")
        self.assertEqual(self.text("n" * 100 + "/" + "m" * 150), b"long name")
        self.assertEqual(os.readlink(self.layer / ("l" * 200)), "t" * 300)

    def test_base_256(self):
        self.data("base-256")
        st = self.stat("f")
        self.assertEqual((st.st_uid, st.st_gid, st.st_size), (3000000, 4000000000, 3))
        self.assertEqual(self.stat("past").st_mtime, -100)

    def test_pax(self):
        self.data("pax")
        path = self.layer / "päx" / ("é" * 120)
        st = path.stat()
        self.assertEqual((st.st_uid, st.st_gid, st.st_mtime), (5000000, 6000000, -12.5))
        self.assertEqual(path.read_bytes(), b"four")
        self.assertEqual(os.getxattr(path, "user.lines"), b"a\nb=c\0d")
        self.assertEqual(os.getxattr(path, "user.pAth"), b"xyz")
        self.assertEqual(len(os.getxattr(path, "security.capability")), 20)
        self.assertEqual(self.text("after"), b"1")

    def test_sparse(self):
        for name, path, size, holds in (
                ("sparse-old", "s", 65536, {512: b"a" * 512, 8192: b"bcd", 16384: b"e" * 512}),
                ("sparse-old-extended", "s", 1 << 20, {i * 4096: bytes([b]) for i, b in
                                                       enumerate(b"0123456789abcdefghijklmnopqrst")}),
                ("sparse-0.0", "s", 100000, {10: b"abc", 90000: b"de"}),
                ("sparse-0.1", "real", 100000, {10: b"abc", 90000: b"de"}),
                ("sparse-1.0", "real", 100000, {10: b"abc", 90000: b"de"})):
            with self.subTest(name):
                top = self.folder(name)
                self.assertNotIn("error", unpack((DATA / "good" / f"{name}.tar").read_bytes(), top))
                wanted = bytearray(size)
                for at, data in holds.items():
                    wanted[at:at + len(data)] = data
                self.assertEqual((top / path).read_bytes(), bytes(wanted))
                self.assertLess((top / path).stat().st_blocks * 512, size * 3 // 4 if name != "sparse-old" else size)

    def test_any_order(self):
        report = self.data("order")
        self.assertEqual(self.text("h"), b"late target")
        self.assertEqual(len({self.stat(x).st_ino for x in ("h", "h2", "t/f")}), 1)
        self.assertEqual(self.stat("t").st_mode & 0o7777, 0o700)
        self.assertEqual(self.text("r"), b"file now")
        self.assertEqual(self.text("r2/y"), b"y")
        self.assertEqual(report.get("opaque", []), [])

    def test_whiteouts(self):
        report = self.data("whiteouts")
        for path in ("top", "d/one"):
            self.assertTrue(stat.S_ISCHR(self.stat(path).st_mode))
            self.assertEqual(self.stat(path).st_rdev, 0)
        self.assertEqual(sorted(report["opaque"]), ["again", "d"])
        self.assertEqual(sorted(os.listdir(self.layer)), ["again", "d", "top"])

    def test_setuid_and_setgid(self):
        self.data("setuid")
        self.assertEqual((self.stat("su").st_mode & 0o7777, self.stat("su").st_uid), (0o6755, 1000))
        self.assertEqual((self.stat("sg").st_mode & 0o7777, self.stat("sg").st_gid), (0o2775, 50))
        self.assertEqual(self.stat("sg/in").st_gid, 7)

    def test_default_acl(self):
        self.data("acl")
        self.assertIn("system.posix_acl_default", os.listxattr(self.layer / "d"))
        self.assertEqual(self.stat("d/f").st_mode & 0o7777, 0o644)

    def test_members_and_frames(self):
        """gzip in members, zstd in frames with a skippable one between, padding after."""
        plain = (DATA / "good/kinds.tar").read_bytes()

        def zstd(data, *options):
            return subprocess.run(["zstd", "-q", "-c", *options], input=data, capture_output=True, check=True).stdout

        sums = set()
        for name, source, want in (
                ("plain", plain, PLAIN), ("any", plain, ANY), ("plain as gzip", plain, GZIP),
                ("gzip", gzip.compress(plain), GZIP), ("gzip as zstd", gzip.compress(plain), ZSTD),
                ("stored", gzip.compress(plain, 0), GZIP),
                ("members", b"".join(gzip.compress(plain[i:i + 700]) for i in range(0, len(plain), 700)), GZIP),
                ("padded", gzip.compress(plain) + b"\0" * 1000, GZIP), ("zstd", zstd(plain), ZSTD),
                ("zstd window", zstd(plain, "--ultra", "-22", "--long=27"), ZSTD),
                ("frames", zstd(plain[:1000]) + b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd(plain[1000:]), ZSTD)):
            with self.subTest(name):
                report = unpack(source, self.folder(name), want)
                self.assertNotIn("error", report)
                self.assertEqual(report["size"], len(plain))
                sums.add(report["diff_id"])
        self.assertEqual(len(sums), 1)
        self.assertIn("its media type says it is not", unpack(gzip.compress(plain), self.layer, PLAIN)["error"])

    def test_a_deep_tree(self):
        """As deep and as long as the bounds allow."""
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo("/".join(["d" * 14] * 255) + "/f"))
        self.good(out.getvalue())
        count = sum(len(d) for _, d, _ in os.walk(self.layer))
        self.assertEqual(count, 255)


class LikeGnuTar(Case):
    def make(self, *options, sparse=False):
        src = self.folder("src")
        (src / ("long" * 30)).mkdir()
        (src / ("long" * 30) / ("name" * 40)).write_bytes(b"x" * 5000)
        (src / "sub/deep").mkdir(parents=True)
        (src / "sub/deep/file").write_bytes(os.urandom(100000))
        os.link(src / "sub/deep/file", src / "hard")
        os.symlink("t" * 150, src / "soft")
        os.link(src / "soft", src / "hard-to-soft", follow_symlinks=False)
        os.mkfifo(src / "fifo")
        os.mknod(src / "chr", 0o640 | stat.S_IFCHR, os.makedev(5, 1))
        os.mknod(src / "blk", 0o640 | stat.S_IFBLK, os.makedev(259, 70000))
        (src / "setuid").write_bytes(b"#!")
        os.chown(src / "setuid", 1234, 2345)
        (src / "setuid").chmod(0o4755)
        (src / "capable").write_bytes(b"bin")
        if "--xattrs" in options:
            os.setxattr(src / "capable", "security.capability",
                        bytes.fromhex("0100000200040000000000000000000000000000"))
            os.setxattr(src / "sub", "user.note", b"folder's")
        (src / "secret").mkdir(mode=0o700)
        (src / "secret").chmod(0o3700)
        (src / "secret/empty").touch()
        (src / "bäd \n name").write_bytes(b"1")
        os.utime(src / "hard", ns=(1, 1600000000123456789))
        with open(src / "holes", "wb") as f:
            for i in range(60):
                f.seek(i * 65536)
                f.write(b"%d" % i)
            f.truncate(60 * 65536)
        os.utime(src / "sub", ns=(1, 1500000000987654321))
        archive = self.dir / "a.tar"
        subprocess.run(["tar", "-c", *options, "-f", archive, "-C", src, "."], check=True, capture_output=True)
        return archive

    def test_gnu(self):
        self.same_as_tar(self.make("--format=gnu"))

    def test_gnu_sparse_with_large_ids(self):
        self.same_as_tar(self.make("--format=gnu", "--sparse", "--owner=:3000000", "--group=:4000000000"))

    def test_ustar(self):
        self.same_as_tar(self.make("--format=ustar", "--exclude=long*", "--exclude=*soft"))

    def test_pax_with_xattrs(self):
        self.same_as_tar(self.make("--format=pax", "--xattrs", "--xattrs-include=*"))

    def test_pax_sparse_0_0(self):
        self.same_as_tar(self.make("--format=pax", "--sparse", "--sparse-version=0.0"))

    def test_pax_sparse_0_1(self):
        self.same_as_tar(self.make("--format=pax", "--sparse", "--sparse-version=0.1"))

    def test_pax_sparse_1_0(self):
        self.same_as_tar(self.make("--format=pax", "--sparse", "--sparse-version=1.0"))

    def test_v7(self):
        self.same_as_tar(self.make("--format=v7", "--exclude=long*", "--exclude=*soft", "--exclude=chr", "--exclude=blk",
                                   "--exclude=fifo"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
