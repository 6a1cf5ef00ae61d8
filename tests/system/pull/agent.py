"""knarr-pull as knarrd starts it, for tests: a socket, orders, events (docs/formats/pull.md)."""
import array
import json
import os
import pathlib
import socket
import subprocess
import tempfile
import time

PULL = pathlib.Path(os.environ["KNARR_BUILD"]) / "src/image/knarr-pull"


class Failed(Exception):
    def __init__(self, event):
        super().__init__(event["text"])
        self.kind, self.event = event["kind"], event


class Agent:
    """`with Agent(reference, hostsDirs=[…], username=…) as a: a.resolve(); a.fetch(…)`"""

    def __init__(self, reference, env=None, **start):
        self.start = {"type": "start", "reference": reference, "parallel": 4, "idleMs": 10000, **start}
        self.env = env or {}
        self.ids = 0
        self.progress = []

    def __enter__(self):
        self.sock, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        os.set_inheritable(far.fileno(), True)
        self.process = subprocess.Popen(["sh", "-c", f'exec "$0" 3<&{far.fileno()} {far.fileno()}<&-', PULL],
                                        pass_fds=[far.fileno()], stdin=subprocess.DEVNULL, env=self.env)
        far.close()
        self.sock.settimeout(60)
        self.sock.send(json.dumps(self.start).encode())
        return self

    def __exit__(self, *_):
        self.sock.close()
        self.process.wait(10)

    def event(self):
        while True:
            text = self.sock.recv(65536)
            if not text:
                raise EOFError("knarr-pull has gone")
            event = json.loads(text)
            if event["type"] != "progress":
                return event
            self.progress.append(event.get("bytes", 0))

    def resolve(self):
        event = self.event()
        if event["type"] == "failed":
            raise Failed(event)
        assert event["type"] == "resolved", event
        return event

    def order(self, digest, size, file, pipe=None, manifest=False):
        self.ids += 1
        order = {"type": "fetch", "id": self.ids, "digest": digest, "size": size, "manifest": manifest}
        fds = array.array("i", [file] + ([pipe] if pipe is not None else []))
        self.sock.sendmsg([json.dumps(order).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        return self.ids

    def fetch(self, digest, size, manifest=False, left=b"", file=None):
        """The blob's bytes; `left` is what an earlier fetch left in the ingest file."""
        with tempfile.TemporaryFile() as own:
            f = file or own
            f.write(left)
            f.flush()
            self.order(digest, size, f.fileno(), manifest=manifest)
            event = self.event()
            if event["type"] == "failed":
                raise Failed(event)
            assert event["type"] == "done", event
            f.seek(0)
            return f.read()

    def image(self):
        """Resolves, fetches all of an image (no index); returns (manifest, blobs)."""
        what = self.resolve()
        manifest = json.loads(self.fetch(what["digest"], what["size"], manifest=True))
        blobs = [self.fetch(d["digest"], d["size"]) for d in [manifest["config"], *manifest["layers"]]]
        return manifest, blobs


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
