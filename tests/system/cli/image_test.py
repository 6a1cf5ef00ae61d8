"""knarr image: what is saved, loaded, made and looked into, beside skopeo and umoci."""
import base64
import gzip
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
from images import Image, busybox_layer, digest, layer  # noqa: E402
from node import Knarrd, Tap  # noqa: E402
from registry import Registry  # noqa: E402


def sh(*words, **kw):
    done = subprocess.run([str(w) for w in words], capture_output=True, text=True, **kw)
    assert done.returncode == 0, f"{words} exits with {done.returncode}: {done.stderr}"
    return done.stdout


def fails(done, pattern):
    said = f"exit {done.returncode}\nstdout: {done.stdout}\nstderr: {done.stderr}"
    assert done.returncode == 125 and re.search(pattern, done.stderr) and done.stderr.count("\n") == 1, said


def members(path):
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def manifest_of(n, image):
    return n.cli("image", "inspect", "--raw", image).stdout


def ids(n):
    return set(n.cli("images", "-q").stdout.split())


def forget(n):
    for one in ids(n):
        n.cli("rmi", one)
    assert not ids(n)


def test_looking(t, n, box, image):
    with t.test("inspect --raw and --config are the documents, byte for byte"):
        assert manifest_of(n, box) == image.manifest.decode()
        assert digest(n.cli("image", "inspect", "--config", box).stdout.encode()) == image.id
    with t.test("inspect is JSON with names, layers and configuration; -o yaml says the same"):
        shown = json.loads(n.cli("image", "inspect", box).stdout)
        assert shown["id"] == image.id and shown["names"] == [box] and len(shown["layers"]) == 2, shown
        assert shown["config"]["config"]["Cmd"] == ["sh"] and shown["platform"].startswith("linux/"), shown
        yaml = n.cli("image", "inspect", "-o", "yaml", box).stdout
        assert f'\nmanifest: "{digest(image.manifest)}"\n' in yaml and "\nlayers:\n  - digest: " in yaml, yaml
        assert n.cli("image", "inspect", "-o", "name", box).stdout == image.id + "\n"
    with t.test("ls -o json, yaml and name"):
        listed = json.loads(n.cli("image", "ls", "-o", "json").stdout)["images"]
        assert [i["id"] for i in listed] == [image.id], listed
        assert n.cli("image", "ls", "-o", "name").stdout == box + "\n"
        assert n.cli("image", "ls").stdout == n.cli("images").stdout
    with t.test("history has a step for each layer, the newest first"):
        steps = json.loads(n.cli("image", "history", "-o", "json", box).stdout)["history"]
        assert [s["layer"] for s in steps] == [x["digest"] for x in json.loads(image.manifest)["layers"]][::-1], steps
        assert n.cli("image", "history", box).stdout.startswith("CREATED")
    with t.test("tree and du count a shared layer once"):
        tree = n.cli("image", "tree").stdout
        assert "└──" in tree and "busybox:1" in tree, tree
        before = json.loads(n.cli("image", "du", "-o", "json").stdout)
        n.cli("image", "tag", box, "example.com/twin:1")
        after = json.loads(n.cli("image", "du", "-o", "json").stdout)
        assert before["total_bytes"] == after["total_bytes"] > 0 and after["images"][0]["shared_bytes"] == 0, after
        n.cli("image", "rm", "example.com/twin:1")
    with t.test("verify finds a blob that has rotted, by its digest"):
        n.cli("image", "verify", box)
        blob = n.root / "content/blobs/sha256" / json.loads(image.manifest)["layers"][0]["digest"][7:]
        good = blob.read_bytes()
        blob.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        fails(n.cli("image", "verify", box, check=False), blob.name)
        blob.write_bytes(good)
    with t.test("what is wrong is said in one sentence"):
        for words, why in ((["frob"], "no verb \"image frob\""), (["inspect", "nosuch"], "no image nosuch"),
                           (["history"], "image is missing"), (["save", "nosuch", "-o", n.dir / "x"], "no image nosuch"),
                           (["ls", "-o", "xml"], "xml"), (["du", "x"], "too many"), (["verify"], "which image"),
                           (["load", "-i", n.dir / "nosuch.tar"], "nosuch.tar"), (["inspect", ""], "image is empty")):
            fails(n.cli("image", *words, check=False), why)
        assert not (n.dir / "x").exists() and not (n.dir / "x.partial").exists()


def test_archives(t, n, box, image):
    archive = n.dir / "saved.tar"
    with t.test("save writes blobs as they are: manifest.json, index.json, every digest right, the same bytes twice"):
        n.cli("image", "save", "-o", archive, box)
        inside = members(archive)
        assert {"oci-layout", "index.json", "manifest.json"} < set(inside)
        blobs = {name: body for name, body in inside.items() if name.startswith("blobs/")}
        assert all(hashlib.sha256(body).hexdigest() == name.rsplit("/", 1)[1] for name, body in blobs.items())
        assert set(blobs) >= {f"blobs/sha256/{d[7:]}" for d in image.blobs}
        assert n.cli("image", "save", box, text=False).stdout == archive.read_bytes()
    for transport in ("oci-archive", "docker-archive"):
        with t.test(f"skopeo reads it as {transport}:"):
            shown = json.loads(sh("skopeo", "inspect", f"{transport}:{archive}"))
            assert shown["Os"] == "linux" and len(shown["Layers"]) == 2, shown
    with t.test("load brings it back: manifest, digests and names are the same"):
        manifest = manifest_of(n, box)
        forget(n)
        assert n.cli("image", "load", "-i", archive).stdout.startswith(f"{box} is ")
        assert manifest_of(n, box) == manifest
        n.cli("image", "verify", box)
        assert n.cli("run", "--rm", "--network", "none", box, "cat", "/etc/motd").stdout == "hello\n"
    with t.test("load from a pipe, gzipped, under another name; what is there already gets the name"):
        with open(archive, "rb") as f:
            packed = gzip.compress(f.read())
        done = subprocess.run([n.program("knarr"), "--socket", n.user_sock, "image", "load", "example.com/other:3"],
                              input=packed, capture_output=True)
        assert done.returncode == 0 and done.stdout.startswith(b"example.com/other:3 is "), done
        assert ids(n) == {image.id} and "example.com/other:3" in n.cli("image", "ls", "-o", "name").stdout
    with t.test("docker's own archive, made by skopeo, and by docker of old: the layers are the same"):
        old = n.dir / "docker.tar"
        sh("skopeo", "copy", f"oci-archive:{archive}", f"docker-archive:{old}:example.com/old:1")
        forget(n)
        assert "example.com/old:1 is" in n.cli("image", "load", "-i", old).stdout
        shown = json.loads(n.cli("image", "inspect", "example.com/old:1").stdout)
        wanted = json.loads(image.blobs[image.id])["rootfs"]["diff_ids"]
        assert [x["diff_id"] for x in shown["layers"]] == wanted, shown
        plain = Image([busybox_layer()], compress="plain")
        plain.save(n.dir / "plain.tar", "example.com/plain:1")
        assert plain.id[7:19] in n.cli("image", "load", "-i", n.dir / "plain.tar").stdout
    with t.test("a layout's folder that skopeo made, and umoci reads what we load from"):
        forget(n)
        sh("skopeo", "copy", f"oci-archive:{archive}", f"oci:{n.dir}/layout:v1")
        assert n.cli("image", "load", "-i", n.dir / "layout", "example.com/l:1").stdout.startswith("example.com/l:1 is ")
        sh("umoci", "stat", "--image", f"{n.dir}/layout:v1")
    with t.test("several images in one archive"):
        n.cli("image", "tag", "example.com/l:1", "example.com/l:2")
        Image([layer([("a", b"a")])], compress="plain").save(n.dir / "a.tar", "example.com/a:1")
        n.cli("image", "load", "-i", n.dir / "a.tar")
        n.cli("image", "save", "-o", n.dir / "both.tar", "example.com/l:1", "example.com/a:1")
        had = ids(n)
        forget(n)
        loaded = n.cli("image", "load", "-i", n.dir / "both.tar").stdout
        assert loaded.count(" is ") == 2 and ids(n) == had, loaded


def test_bad_archives(t, n, image):
    def archive(name, entries):
        (n.dir / name).write_bytes(layer(entries))
        return n.dir / name

    listed = [{"Config": "c.json", "RepoTags": ["x:1"], "Layers": ["l.tar"]}]
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(b"x")]}})
    good = layer([("f", b"f")])
    index = {"schemaVersion": 2, "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json",
                                                "digest": digest(b"{}"), "size": 2}]}
    had = ids(n)
    for what, path, why in (
            ("no archive", archive("none.tar", []), "neither an index.json nor a manifest.json"),
            ("garbage", n.dir / "garbage", "."),
            ("a cut archive", n.dir / "cut.tar", "."),
            ("a broken gzip stream", n.dir / "cut.tar.gz", "gzip"),
            ("xz", n.dir / "x.tar.xz", "compressed with xz"),
            ("a manifest.json that is no list", archive("m1.tar", [("manifest.json", b"{}")]), "manifest.json"),
            ("JSON without an end", archive("m2.tar", [("manifest.json", b"[")]), "manifest.json"),
            ("a config that is missing", archive("m3.tar", [("manifest.json", json.dumps(listed).encode())]), "no c.json"),
            ("a layer that is missing", archive("m4.tar", [("manifest.json", json.dumps(listed).encode()),
                                                           ("c.json", config.encode())]), "no l.tar"),
            ("a layer with another diff ID", archive("m5.tar", [("manifest.json", json.dumps(listed).encode()),
                                                                ("c.json", config.encode()), ("l.tar", good)]), "digest"),
            ("a path that leaves the archive", archive("m6.tar", [
                ("manifest.json", json.dumps([listed[0] | {"Config": "../../../etc/passwd"}]).encode())]), "passwd"),
            ("links in a circle", archive("m7.tar", [("manifest.json", "b"), ("b", "manifest.json")]), "neither"),
            ("a blob that is missing", archive("i1.tar", [("oci-layout", b"{}"), ("index.json", json.dumps(index).encode())]),
             "blobs/sha256"),
            ("a manifest of another size", archive("i2.tar", [
                ("oci-layout", b"{}"), ("index.json", json.dumps(index).encode()),
                ("blobs/sha256/" + digest(b"{}")[7:], b"{  }")]), "."),
            ("an index.json of no image", archive("i3.tar", [
                ("oci-layout", b"{}"), ("index.json", b'{"schemaVersion":2,"manifests":[]}')]), "no image"),
    ):
        if path.name == "garbage":
            path.write_bytes(os.urandom(5000))
        elif path.name == "cut.tar":
            path.write_bytes(layer([("manifest.json", b"x" * 5000)])[:3000])
        elif path.name == "cut.tar.gz":
            path.write_bytes(gzip.compress(os.urandom(9000))[:4000])
        elif path.name == "x.tar.xz":
            path.write_bytes(b"\xfd7zXZ\0" + bytes(100))
        with t.test(f"load of {what} is refused in one sentence, and leaves nothing"):
            fails(n.cli("image", "load", "-i", path, check=False), why)
            assert ids(n) == had
    with t.test("a blob whose bytes were changed is refused by its digest"):
        n.cli("image", "load", "-i", n.dir / "saved.tar")
        forget(n)
        inside = members(n.dir / "saved.tar")
        victim = max((k for k in inside if k.startswith("blobs/")), key=lambda k: len(inside[k]))
        inside[victim] = inside[victim][:-5] + b"wrong"
        (n.dir / "bad.tar").write_bytes(layer(list(inside.items())))
        fails(n.cli("image", "load", "-i", n.dir / "bad.tar", check=False), victim[13:])
        assert not ids(n)


def folder(path):
    path.mkdir()
    (path / "bin").mkdir()
    shutil.copy("/bin/busybox", path / "bin/busybox")
    for name in ("sh", "echo", "cat", "ls", "stat"):
        (path / "bin" / name).symlink_to("busybox")
    (path / "data").mkdir()
    (path / "data/one").write_text("one\n")
    os.link(path / "data/one", path / "data/two")
    (path / "data" / ("long" * 50)).write_text("a long name\n")
    (path / "data/empty").mkdir(mode=0o750)
    os.mkfifo(path / "data/fifo")
    (path / "data/set").write_bytes(b"")
    (path / "data/set").chmod(0o4755)
    return path


def test_making(t, n):
    with t.test("from-dir: the same bytes from the same files, whatever their times, order and owner"):
        one, two = folder(n.dir / "one"), folder(n.dir / "two")
        os.utime(two / "data/one", (1, 1))
        os.chown(two / "data/set", 7, 7)
        (two / "data/set").chmod(0o4755)
        first = n.cli("image", "from-dir", one, "example.com/made:1", "--cmd", "echo hello").stdout
        second = n.cli("image", "from-dir", two, "-t", "example.com/made:2", "--cmd", '["echo","hello"]').stdout
        assert first.split()[-1] == second.split()[-1], (first, second)
        assert manifest_of(n, "example.com/made:1") == manifest_of(n, "example.com/made:2")
    with t.test("it runs, and the files are what they were"):
        assert n.cli("run", "--rm", "--network", "none", "example.com/made:1").stdout == "hello\n"
        shown = n.cli("run", "--rm", "--network", "none", "example.com/made:1", "stat", "-c", "%a %u %h %Y %n", "/data/one",
                      "/data/empty", "/data/set", "/data/" + "long" * 50).stdout.split("\n")
        assert shown[:3] == ["644 0 2 0 /data/one", "750 0 2 0 /data/empty", "4755 0 1 0 /data/set"], shown
        assert shown[3].endswith("long"), shown
    with t.test("its options are in the configuration, SOURCE_DATE_EPOCH is its time"):
        done = subprocess.run([n.program("knarr"), "--socket", n.user_sock, "image", "from-dir", n.dir / "one", "-e", "A=b",
                               "-w", "/data", "-u", "5:6", "-l", "k=v", "--expose", "80", "--volume", "/data", "--entrypoint",
                               "cat", "--stop-signal", "SIGINT", "--keep-owner", "-t", "example.com/o:1"],
                              env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        shown = json.loads(n.cli("image", "inspect", "example.com/o:1").stdout)
        assert shown["created"].startswith("2023-11-14T22:13:20"), shown
        assert shown["config"]["config"] == {"User": "5:6", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Entrypoint": ["cat"],
                                             "Volumes": {"/data": {}}, "WorkingDir": "/data", "Labels": {"k": "v"},
                                             "StopSignal": "SIGINT"}, shown["config"]
    with t.test("skopeo and umoci take it"):
        n.cli("image", "save", "-o", n.dir / "made.tar", "example.com/made:1")
        sh("skopeo", "copy", f"oci-archive:{n.dir}/made.tar", f"oci:{n.dir}/madelayout:1")
        sh("umoci", "unpack", "--rootless", "--image", f"{n.dir}/madelayout:1", n.dir / "unpacked")
        assert (n.dir / "unpacked/rootfs/data/one").read_text() == "one\n"
    with t.test("import: a tar, and a gzipped one on stdin, give the same image"):
        (n.dir / "root.tar").write_bytes(busybox_layer())
        first = n.cli("image", "import", n.dir / "root.tar", "example.com/i:1", "--cmd", "echo imported").stdout
        assert n.cli("run", "--rm", "--network", "none", "example.com/i:1").stdout == "imported\n"
        done = subprocess.run([n.program("knarr"), "--socket", n.user_sock, "image", "import", "-", "example.com/i:2"],
                              input=gzip.compress((n.dir / "root.tar").read_bytes()), capture_output=True, text=False)
        assert done.returncode == 0, done.stderr
        layers = [json.loads(n.cli("image", "inspect", f"example.com/i:{k}").stdout)["layers"] for k in (1, 2)]
        assert layers[0] == layers[1] and first.startswith("example.com/i:1 is "), layers
    with t.test("what can't be made is refused in one sentence"):
        (n.dir / "notar").write_bytes(b"not a tar" * 1000)
        for words, why in ((["from-dir"], "which folder"), (["from-dir", n.dir / "nosuch"], "nosuch"),
                           (["from-dir", n.dir / "root.tar"], "root.tar"), (["from-dir", n.dir / "one", "a", "b"], "too many"),
                           (["from-dir", n.dir / "one", "A B"], "A B"), (["from-dir", n.dir / "one", "-e", "x"], "KEY=VALUE"),
                           (["from-dir", n.dir / "one", "--cmd", "[1]"], "--cmd"), (["from-dir", n.dir / "one", "-w", "x"], "begins"),
                           (["from-dir", n.dir / "one", "--expose", "99999"], "99999"),
                           (["from-dir", n.dir / "one", "--platform", "plan9/mips"], "plan9"),
                           (["from-dir", n.dir / "one", "--created", "never"], "never"),
                           (["from-dir", n.dir / "one", "x@sha256:" + "0" * 64], "digest"),
                           (["import", n.dir / "notar"], "."), (["import"], "which file")):
            fails(n.cli("image", *words, check=False), why)


def test_registries(t, n, r, box):
    def copy(*words, check=True):
        done = subprocess.run([n.program("knarr"), "--config", n.config, "image", "copy", *map(str, words)],
                              capture_output=True, text=True)
        assert done.returncode == 0 or not check, done.stderr
        return done

    def here(*words, check=True):
        return n.cli("--config", n.config, "image", *words, check=check)

    raw = manifest_of(n, box)
    dig = digest(raw.encode())
    with t.test("push sends an image under another name; what comes back has the same digest"):
        assert here("push", box, f"{r.address}/pushed/box:2").stdout == dig + "\n"
        assert sh("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{r.address}/pushed/box:2") == raw
        assert here("push", box, f"{r.address}/pushed/box:2").stdout == dig + "\n"
        n.cli("pull", f"{r.address}/pushed/box:2")
    with t.test("copy goes from and to every transport, needs no daemon, and keeps the digest"):
        places = [f"docker://{r.address}/pushed/box:2", f"oci:{n.dir}/c-oci:v1", f"oci-archive:{n.dir}/c-oci.tar:v1",
                  f"dir:{n.dir}/c-dir", f"docker://{r.address}/copied/box:3", f"oci-archive:{n.dir}/c-named.tar:example.com/n:1"]
        for source, target in zip(places, places[1:]):
            assert copy(source, target).stdout == dig + "\n", (source, target)
        for place in (places[1], places[2], places[3]):
            assert sh("skopeo", "inspect", "--raw", place) == raw, place
        assert sh("skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{places[4][9:]}") == raw
    with t.test("a docker-archive, and back"):
        copy(places[1], f"docker-archive:{n.dir}/c-docker.tar:example.com/d:1")
        assert json.loads(sh("skopeo", "inspect", f"docker-archive:{n.dir}/c-docker.tar"))["Os"] == "linux"
        copy(f"docker-archive:{n.dir}/c-docker.tar:example.com/d:1", f"dir:{n.dir}/c-dir2")
    with t.test("what skopeo wrote is read: dir, oci, oci-archive"):
        for place in (f"dir:{n.dir}/s-dir", f"oci:{n.dir}/s-oci:1", f"oci-archive:{n.dir}/s.tar:1"):
            sh("skopeo", "copy", places[1], place)
            assert copy(place, f"oci:{n.dir}/back:1").stdout == dig + "\n", place
    with t.test("an image of this machine is copied out and in"):
        here("copy", box, f"oci:{n.dir}/node:1")
        assert here("copy", f"oci:{n.dir}/node:1", "example.com/in:1").stdout == dig + "\n"
        assert manifest_of(n, "example.com/in:1") == raw
    with t.test("a second image in a layout leaves the first"):
        n.cli("image", "import", n.dir / "root.tar", "example.com/second:1")
        here("copy", "example.com/second:1", f"oci:{n.dir}/node:2")
        names = [m["annotations"]["org.opencontainers.image.ref.name"]
                 for m in json.loads((n.dir / "node/index.json").read_text())["manifests"]]
        assert names == ["1", "2"], names
    with t.test("what can't be copied is refused in one sentence, and no half of it stays"):
        for words, why in ((["copy"], "source and a destination"), (["copy", "docker://", "x"], "names no image"),
                           (["copy", f"oci:{n.dir}/nosuch:1", "x"], "nosuch"),
                           (["copy", f"oci:{n.dir}/node:9", "x"], "no image called"),
                           (["copy", f"oci:{n.dir}/node", "x"], "2 images"),
                           (["copy", f"docker://{r.address}/no/such:1", f"dir:{n.dir}/x"], "not found"),
                           (["push", box, "127.0.0.1:1/x:1"], "127.0.0.1:1"), (["push", "nosuch"], "nosuch"),
                           (["push", box, f"{r.address}/x@sha256:" + "0" * 64], "the image is"),
                           (["copy", "--src-creds", "x", f"docker://{r.address}/a", "b"], "USER:PASSWORD"),
                           (["copy", "--platform", "linux/s390x", places[0], f"docker://{r.address}/no/such:1"], ".")):
            if why != ".":
                fails(here(*words, check=False), why)
        assert not (n.dir / "x").exists()


def test_logins(t, n, box):
    htpasswd = n.dir / "htpasswd"
    htpasswd.write_text(sh("htpasswd", "-Bbn", "me", "secret") if shutil.which("htpasswd") else "")
    if not htpasswd.read_text():
        t.skip("a registry with a login", "htpasswd (apache2-utils)")
        return
    auth = f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}"
    with Registry(auth=auth) as r:
        target = f"{r.address}/private/box:1"
        file = n.dir / "auth.json"
        file.write_text(json.dumps({"auths": {r.address: {"auth": base64.b64encode(b"me:secret").decode()}}}))
        with t.test("push without a login is refused; with --creds or an auth file it is taken; nothing secret is said"):
            base = [n.program("knarr"), "--socket", n.user_sock, "--config", n.config, "image", "push"]
            env = {k: v for k, v in os.environ.items() if k != "REGISTRY_AUTH_FILE"} | {"HOME": str(n.dir)}
            done = subprocess.run([*base, box, target], capture_output=True, text=True, env=env)
            fails(done, "wants a user name|credentials")
            wrong = subprocess.run([*base, "--creds", "me:wrongsecret", box, target], capture_output=True, text=True, env=env)
            fails(wrong, "credentials")
            assert "wrongsecret" not in wrong.stderr
            for more in (["--creds", "me:secret"], ["--authfile", file]):
                done = subprocess.run([*base, *more, box, target], capture_output=True, text=True, env=env)
                assert done.returncode == 0, done.stderr


def test_completion(t, n):
    with t.test("bash completes verbs, verbs of image and images by what completion prints"):
        script = n.dir / "knarr.bash"
        script.write_text(n.cli("completion", "bash").stdout + """
knarr() { echo example.com/made:1; }
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _knarr; echo "${COMPREPLY[*]}"; }
try knarr comp; try knarr image hi; try knarr image rm example
""")
        assert sh("bash", script).split() == ["completion", "history", "example.com/made:1"]
    with t.test("zsh and fish get theirs; another shell is told which there are"):
        assert "#compdef knarr" in n.cli("completion", "zsh").stdout
        assert "complete -c knarr" in n.cli("completion", "fish").stdout
        fails(n.cli("completion", "ksh", check=False), "bash, zsh and fish")


def main():
    t = Tap()
    image = Image([busybox_layer(), layer([("etc/motd", b"hello\n")])])
    with Registry() as r, Knarrd(os.environ["KNARR_BUILD"], cni=False) as n:
        box = f"{r.address}/t/busybox:1"
        image.push(r.address, "t/busybox", "1")
        n.cli("image", "pull", box)
        test_looking(t, n, box, image)
        test_archives(t, n, box, image)
        test_bad_archives(t, n, image)
        test_making(t, n)
        n.cli("image", "pull", box)
        test_registries(t, n, r, box)
        test_logins(t, n, box)
        test_completion(t, n)
    t.end()


main()
