#!/usr/bin/env python3
"""CheckpointContainer: the archive holds what a restore needs, the container goes on in every case. By a stand-in that speaks
CRIU's RPC, and by the real one (KNARR_CRIU, or criu on PATH) where it runs on this kernel."""
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kill"))
from world import Keeper, Tap, World, refused, until  # noqa: E402

FAKE = HERE.parent / "oci" / "fake_criu.py"
CRIU = os.environ.get("KNARR_CRIU") or shutil.which("criu")
CHANGES = "rm /etc/passwd; rm -r /home; mkdir /home; echo new > /home/new; ln -s new /home/link; echo told; exec sleep 1000"


class Node(World):
    def __init__(self):
        super().__init__()
        self.criu_path = self.dir / "criu"
        self.extra += f"criu: {self.criu_path}\n"

    def criu(self, mode):
        """The next checkpoints' criu: the real one, or the stand-in in one of its modes."""
        command = f'{CRIU} "$@"' if mode == "real" else f'{sys.executable} {FAKE} {mode} "$@"'
        self.criu_path.write_text(f"#!/bin/sh\nexec {command}\n")
        self.criu_path.chmod(0o755)

    def frozen(self, container):
        names = "freezer.state", "cgroup.freeze"
        return [f for c in self.cgroups() if c.name == container for f in names
                if (c / f).exists() and (c / f).read_text().strip() in ("FROZEN", "FREEZING", "1")]

    def clean(self, container):
        assert not (self.root / "containers" / container / "checkpoint").exists(), "the images stay"
        assert not self.frozen(container), "the container stays frozen"


def archive(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() if m.isfile() else None for m in tar}


def check_archive(w, path, container):
    found = archive(path)
    words = json.loads(found["config.dump"])
    assert words["id"] == container and words["rootfsImageName"] == w.image and words["checkpointedTime"], words
    assert json.loads(found["spec.dump"])["process"]["args"]
    assert any(m["destination"] == "/etc/hosts" and m["file_type"] == "file" for m in json.loads(found["bind.mounts"]))
    assert "checkpoint" in found and "checkpoint/descriptors.json" in found and "dump.log" in found, sorted(found)
    deleted = json.loads(found["deleted.files"])
    assert "etc/passwd" in deleted and "home/app" in deleted, deleted
    with tarfile.open(fileobj=io.BytesIO(found["rootfs-diff.tar"])) as diff:
        names = {m.name: m for m in diff}
        assert diff.extractfile("home/new").read() == b"new\n"
        assert names["home/link"].linkname == "new" and names["home"].isdir()
        assert "etc/passwd" not in names
    assert os.stat(path).st_mode & 0o777 == 0o600
    return found


def main():
    tap = Tap()
    with Node() as w:
        w.criu("ok")
        pod = w.run_pod("boat")
        k = w.start_container(pod, "boat", "box", "/bin/sh", "-c", CHANGES)
        until("it has changed its root", 30, lambda: "told" in w.logged("boat", "box"))
        pid, out = w.pid(k), str(w.dir / "box.tar")

        def checkpoint(**kw):
            return w.cri.CheckpointContainer(container_id=k, location=out, **kw)

        with tap.test("an archive has all parts, and the container goes on"):
            checkpoint()
            found = check_archive(w, out, k)
            said = json.loads(found["checkpoint/request.json"])
            assert said["3"] == [1] and said["2"] == [pid], said
            assert any(x.startswith("net[") for x in said["37"]), said
            assert w.pid(k) == pid and w.status(k)["state"] == "CONTAINER_RUNNING"
            w.clean(k)
        for mode, code, told in (("fail", "Internal", "the sea is rough"), ("silent", "Internal", "without an answer"),
                                 ("rubbish", "DataLoss", "rubbish"), ("old", "Unavailable", "CRIU 3.2")):
            with tap.test(f"criu that is {mode}: named, no archive, the container goes on"):
                w.criu(mode)
                os.unlink(out) if os.path.exists(out) else None
                message = refused(code, told, checkpoint)
                assert not os.path.exists(out) and not os.path.exists(out + ".part"), message
                assert w.pid(k) == pid
                w.clean(k)
        with tap.test("no criu, a path that is relative, a container that does not run: each is said"):
            w.criu_path.unlink()
            refused("Unavailable", str(w.criu_path), checkpoint)
            refused("InvalidArgument", "absolute", lambda: w.cri.CheckpointContainer(container_id=k, location="box.tar"))
            refused("NotFound", "", lambda: w.cri.CheckpointContainer(container_id="f" * 64, location=out))
            done = w.start_container(pod, "boat", "done", "/bin/true")
            w.exited(done)
            refused("FailedPrecondition", "not running", lambda: w.cri.CheckpointContainer(container_id=done, location=out))
        w.remove_pod(pod)

        promise = "the real CRIU writes a container that counts, which goes on without a gap"
        check = CRIU and subprocess.run([CRIU, "check"], capture_output=True, text=True)
        if not CRIU or check.returncode:
            tap.skip(promise, "criu is not installed" if not CRIU else "this criu does not run on this kernel")
        else:
            with tap.test(promise):
                w.criu("real")
                keeper = Keeper(w)
                w.cri.CheckpointContainer(container_id=keeper.container, location=out)
                found = archive(out)
                assert any(n.startswith("checkpoint/pages-") for n in found), sorted(found)
                keeper.check()
                w.clean(keeper.container)
                w.remove_pod(keeper.pod)
    tap.end()


main()
