"""Small OCI and Docker images for tests and the demo, made from folders and pushed to a plain-http registry.

As a command: images.py REGISTRY/NAME:TAG [--docker] [--zstd] [CMD…] pushes an image of Debian's busybox-static, whose
command is CMD (default: sh).
"""
import argparse
import gzip
import hashlib
import io
import json
import pathlib
import subprocess
import tarfile
import urllib.request

OCI = {"manifest": "application/vnd.oci.image.manifest.v1+json", "config": "application/vnd.oci.image.config.v1+json",
       "index": "application/vnd.oci.image.index.v1+json", "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
       "zstd": "application/vnd.oci.image.layer.v1.tar+zstd", "plain": "application/vnd.oci.image.layer.v1.tar"}
DOCKER = {"manifest": "application/vnd.docker.distribution.manifest.v2+json",
          "config": "application/vnd.docker.container.image.v1+json",
          "index": "application/vnd.docker.distribution.manifest.list.v2+json",
          "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
          "plain": "application/vnd.docker.image.rootfs.diff.tar"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def layer(entries):
    """A tar of (name, content) pairs: bytes are a file, a str is a symlink, None a folder, a TarInfo stands for itself."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in entries:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
                continue
            info = tarfile.TarInfo(name)
            info.mtime = 1700000000
            info.mode = 0o755
            if content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(content, str):
                info.type = tarfile.SYMTYPE
                info.linkname = content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def busybox_layer(extra=()):
    """A root with busybox under all its names, a passwd with root, nobody and the user app (1000)."""
    binary = pathlib.Path("/bin/busybox").read_bytes()
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    entries = [(d, None) for d in ("bin", "etc", "tmp", "root", "home", "home/app", "var", "usr", "usr/bin")]
    entries.append(("bin/busybox", binary))
    entries += [(f"bin/{n}", "busybox") for n in names if n != "busybox"]
    entries.append(("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
                                  b"nobody:x:65534:65534:nobody:/:/bin/false\n"))
    entries.append(("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\nnogroup:x:65534:\n"))
    return layer(entries + list(extra))


class Image:
    """An image made of layers (uncompressed tar bytes)."""

    def __init__(self, layers, config=None, kinds=OCI, compress="gzip", arch="amd64"):
        self.kinds, self.blobs, descriptors = kinds, {}, []
        for tar in layers:
            blob = {"gzip": lambda t: gzip.compress(t, 6, mtime=0), "plain": lambda t: t,
                    "zstd": lambda t: subprocess.run(["zstd", "-q", "-c"], input=t, capture_output=True,
                                                     check=True).stdout}[compress](tar)
            descriptors.append(self._add(blob, kinds[compress]))
        document = {"architecture": arch, "os": "linux", "config": config or {"Cmd": ["sh"], "Env": ["PATH=/bin:/usr/bin"]},
                    "rootfs": {"type": "layers", "diff_ids": [digest(t) for t in layers]}}
        raw = json.dumps(document).encode()
        self.id = digest(raw)
        self.manifest = json.dumps({"schemaVersion": 2, "mediaType": kinds["manifest"],
                                    "config": self._add(raw, kinds["config"]), "layers": descriptors}).encode()

    def _add(self, blob, media_type):
        self.blobs[digest(blob)] = blob
        return {"mediaType": media_type, "size": len(blob), "digest": digest(blob)}

    def push(self, registry, name, tag, headers=None):
        """Pushes over plain http; returns the manifest's digest."""
        for dig, blob in self.blobs.items():
            push_blob(registry, name, dig, blob, headers)
        return push_manifest(registry, name, tag, self.manifest, self.kinds["manifest"], headers)

    def save(self, path, name):
        """Writes it as the archive that docker, podman and containerd load. Made with compress="plain"."""
        manifest = json.loads(self.manifest)
        config, layers = manifest["config"]["digest"], [one["digest"] for one in manifest["layers"]]
        listed = [{"Config": config[7:] + ".json", "RepoTags": [name], "Layers": [f"{one[7:]}/layer.tar" for one in layers]}]
        entries = [(listed[0]["Config"], self.blobs[config]), ("manifest.json", json.dumps(listed).encode())]
        entries += list(zip(listed[0]["Layers"], (self.blobs[one] for one in layers)))
        pathlib.Path(path).write_bytes(layer(entries))

    def descriptor(self, arch="amd64", os="linux", variant=None):
        platform = {"architecture": arch, "os": os} | ({"variant": variant} if variant else {})
        return {"mediaType": self.kinds["manifest"], "size": len(self.manifest), "digest": digest(self.manifest),
                "platform": platform}


def push_index(registry, name, tag, descriptors, kinds=OCI, headers=None):
    index = json.dumps({"schemaVersion": 2, "mediaType": kinds["index"], "manifests": descriptors}).encode()
    return push_manifest(registry, name, tag, index, kinds["index"], headers)


def _request(method, url, data=None, headers=None):
    request = urllib.request.Request(url, data=data, method=method, headers=headers or {})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers


def push_blob(registry, name, dig, blob, headers=None):
    where = _request("POST", f"http://{registry}/v2/{name}/blobs/uploads/", b"", headers)["Location"]
    if where.startswith("/"):
        where = f"http://{registry}{where}"
    sep = "&" if "?" in where else "?"
    _request("PUT", f"{where}{sep}digest={dig}", blob, {"Content-Type": "application/octet-stream"} | (headers or {}))


def push_manifest(registry, name, tag, raw, media_type, headers=None):
    _request("PUT", f"http://{registry}/v2/{name}/manifests/{tag}", raw, {"Content-Type": media_type} | (headers or {}))
    return digest(raw)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference")
    parser.add_argument("--docker", action="store_true", help="Docker schema 2 instead of OCI")
    parser.add_argument("--zstd", action="store_true", help="zstd layers instead of gzip")
    parser.add_argument("cmd", nargs="*", default=["sh"])
    args = parser.parse_args()
    registry, _, rest = args.reference.partition("/")
    name, _, tag = rest.rpartition(":")
    image = Image([busybox_layer()], {"Cmd": args.cmd, "Env": ["PATH=/bin:/usr/bin"]},
                  DOCKER if args.docker else OCI, "zstd" if args.zstd else "gzip")
    print(image.push(registry, name, tag))


if __name__ == "__main__":
    main()
