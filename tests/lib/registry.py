"""Debian's docker-registry on a free loopback port, with a storage folder of its own."""
import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"{tls}}}
{auth}
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_port(port, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise RuntimeError(f"nothing listens on port {port}")


class Registry:
    """`with Registry() as r: … r.address`. auth and tls are lines of the registry's own configuration."""

    def __init__(self, auth="", tls=""):
        self.auth, self.tls = auth, tls

    def __enter__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-registry-"))
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        config = self.folder / "config.yml"
        config.write_text(CONFIG.format(root=self.folder / "data", port=self.port, auth=self.auth, tls=self.tls))
        binary = shutil.which("docker-registry") or shutil.which("registry")
        self.process = subprocess.Popen([binary, "serve", config], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                        env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
        wait_for_port(self.port)
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
