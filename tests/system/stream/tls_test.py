#!/usr/bin/env python3
"""The streaming server with TLS: only a client whose certificate is by the configured CA is answered."""
import os
import pathlib
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import node  # noqa: E402
import tls   # noqa: E402


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def curl(folder, url, *more):
    return subprocess.run(["curl", "-sS", "--max-time", "60", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", "ca.pem",
                           *more, url], cwd=folder, capture_output=True, text=True)


def main():
    tap = node.Tap()
    with tempfile.TemporaryDirectory(prefix="knarr-test-tls-") as folder:
        tls.certificates(folder)
        port = free_port()
        config = f'stream:\n  address: "127.0.0.1:{port}"\n  cert: {folder}/server.pem\n  key: {folder}/server.key\n' \
                 f'  client_ca: {folder}/ca.pem\n'
        with node.Knarrd(os.environ["KNARR_BUILD"], config=config) as knarrd:
            node.until("it is ready", 60, lambda: "ready took_ms" in knarrd.log.read_text())
            url = f"https://127.0.0.1:{port}/exec/guessed"
            with tap.test("a client with a certificate is answered"):
                got = curl(folder, url, "--cert", "client.pem", "--key", "client.key")
                assert got.stdout == "404", got
            with tap.test("one without a certificate is not"):
                got = curl(folder, url)
                assert got.returncode and got.stdout == "000", got
            with tap.test("one without TLS is not"):
                got = curl(folder, url.replace("https", "http"))
                assert got.returncode and got.stdout == "000", got
        with tap.test("nothing is left"):
            assert not knarrd.leftovers()
    tap.end()


main()
