"""Exec, attach, port-forward and logs through kubelet's own API (./client is kubectl's half), and how pods end."""
import contextlib
import os
import pathlib
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import urllib.request

from node import until

HERE = pathlib.Path(__file__).resolve().parent
# SPDY; WebSocket v5, which kubelet translates into SPDY; WebSocket v4, which it passes on as it comes.
PROTOCOLS = {"SPDY": [], "WebSocket v5": ["-websocket"], "WebSocket v4": ["-v4"]}


def build_client(folder):
    binary = folder / "kubelet-client"
    subprocess.run(["go", "build", "-trimpath", "-o", binary, "."], cwd=HERE / "client", check=True,
                   env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod -buildvcs=false"})
    return binary


class Session:
    """A client that runs; its output is gathered as it comes."""

    def __init__(self, *argv):
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.text = b""
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        while piece := os.read(self.process.stdout.fileno(), 65536):
            self.text += piece

    def say(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def hears(self, text):
        until(f"{text!r}, heard was {self.text!r}", 60, lambda: text.encode() in self.text)

    def ends(self):
        code = self.process.wait(60)
        self.reader.join(60)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.reader.join(60)
        self.process.stdout.close()


class Talk:
    """The pod "talk", and kubectl's verbs on it."""

    def __init__(self, node, kubelet):
        self.node, self.kubelet, self.client = node, kubelet, build_client(node.dir)

    def url(self, verb, container="", command=()):
        query = urllib.parse.urlencode([("command", word) for word in command])
        return f"https://127.0.0.1:{self.kubelet.port}/{verb}/default/talk-node{'/' if container else ''}{container}?{query}"

    def exec(self, options, *command, text=None):
        words = [self.client, *options, *(["-i"] if text is not None else []), "exec", self.url("exec", "shell", command)]
        return subprocess.run(words, input=text or "", capture_output=True, text=True, timeout=120, check=False)

    def attach(self, options):
        return Session(self.client, *options, "-i", "attach", self.url("attach", "shell"))

    def forward(self, options):
        return Session(self.client, *options, "forward", self.url("portForward"), "8080")


def pod(name, image, containers, grace=2, **more):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
            "spec": {"terminationGracePeriodSeconds": grace, "containers": [{"image": image, **c} for c in containers], **more}}


def ready(pod):
    return bool(pod) and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


SHELL = "trap 'exit 0' TERM; echo shell is up; while :; do read line && echo got $line; done"


def run_exec(tap, talk):
    for name, options in PROTOCOLS.items():
        with tap.test(f"exec over {name}: stdin, both outputs and the exit code"):
            count = "head -n 2 | wc -l" if name == "WebSocket v4" else "wc -l"  # v4 has no word for the end of stdin
            done = talk.exec(options, "sh", "-c", f"{count}; echo out; echo err >&2; exit 7", text="one\ntwo\n")
            assert (done.returncode, done.stdout.split(), done.stderr) == (7, ["2", "out"], "err\n"), done
        with tap.test(f"exec over {name}: a terminal of the client's size"):
            done = talk.exec(["-t", "91x37", *options], "sh", "-c",
                             "until [ \"$(stty size 2>&1)\" = '37 91' ]; do sleep 0.1; done; test -t 0 && echo terminal; exit 3")
            assert (done.returncode, done.stdout) == (3, "terminal\n"), done
    with tap.test("exec of a program that is not there names it"):
        done = talk.exec([], "/no/such/program")
        assert done.returncode not in (0, 125) or "/no/such/program" in done.stderr, done
        assert "/no/such/program" in done.stderr, done


def dial(session):
    session.hears("\n")
    return socket.create_connection(("127.0.0.1", int(session.text.split()[0])), 60)


def echoes(session, size=1 << 20):
    sent = os.urandom(size)
    with dial(session) as conn:
        writer = threading.Thread(target=conn.sendall, args=(sent,))
        writer.start()
        got = b""
        while len(got) < size and (piece := conn.recv(65536)):
            got += piece
        writer.join(60)
    assert got == sent, f"{len(got)} of {size} bytes, or others"


def run_attach(tap, talk):
    for name, options in PROTOCOLS.items():
        with tap.test(f"attach over {name}: what is typed arrives, what is written comes"), talk.attach(options) as session:
            word = name.replace(" ", "-")
            for _ in range(100):  # what was written before the attach is not for it
                session.say(f"{word}\n")
                time.sleep(0.1)
                if f"got {word}".encode() in session.text:
                    break
            session.hears(f"got {word}")


def run_forward(tap, talk):
    for name in ("SPDY", "WebSocket v5"):
        with tap.test(f"port-forward over {name}: every byte both ways, one connection after the other"), \
                talk.forward(PROTOCOLS[name]) as session:
            echoes(session)
            echoes(session)


def run_restart(tap, talk):
    with tap.test("knarrd killed within an attach, an exec and a port-forward: they end, their pod does not, new ones work"):
        before = talk.kubelet.pod("talk")["status"]["containerStatuses"]
        with talk.attach([]) as attach, talk.forward([]) as forward, \
                Session(talk.client, "exec", talk.url("exec", "shell", ["sh", "-c", "echo on; sleep 98765"])) as command:
            command.hears("on")
            echoes(forward, 1000)
            talk.node.kill()
            command.ends()
            attach.ends()
            talk.node.start()
        until("exec works again", 60, lambda: talk.exec([], "true").returncode == 0)
        until("the exec of before is gone", 60, lambda: "98765" not in talk.exec([], "ps").stdout)
        with talk.forward([]) as forward:
            echoes(forward, 1000)
        after = talk.kubelet.pod("talk")["status"]["containerStatuses"]
        assert [c["containerID"] for c in before] == [c["containerID"] for c in after], f"{before} became {after}"


def run_follow(tap, talk):
    kubelet, context = talk.kubelet, ssl._create_unverified_context()
    url = f"https://127.0.0.1:{kubelet.port}/containerLogs/default/talk-node/shell?follow=true"
    with tap.test("logs -f shows lines as they are written"), \
            urllib.request.urlopen(url, timeout=60, context=context) as answer, talk.attach([]) as attach:
        lines = []
        reader = threading.Thread(target=lambda: lines.extend(iter(answer.readline, b"")), daemon=True)
        reader.start()
        for word in ("first", "second"):
            attach.say(f"followed-{word}\n")
            attach.hears(f"got followed-{word}")
            until(f"{word} in the log", 60, lambda: f"got followed-{word}\n".encode() in b"".join(lines))
        talk.remove()
        reader.join(60)
        assert not reader.is_alive(), "it goes on after the container's end"
        assert b"shell is up\n" in b"".join(lines), lines


def running(node, pod):
    """Whether the pod's first container runs, by the runtime's word: kubelet forgets a static pod with its manifest."""
    cid = pod["status"]["containerStatuses"][0]["containerID"].split("://", 1)[1]
    done = subprocess.run([node.program("knarr"), "--socket", node.sock, "ps"], capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL, check=True)
    return cid[:12] in done.stdout


def run_graceful(tap, talk, image, host):
    node, kubelet, said = talk.node, talk.kubelet, host / "said"
    script = "trap 'echo term >>/host/said; sleep 3; echo done >>/host/said; exit 0' TERM; while :; do sleep 0.1; done"
    mount = {"volumeMounts": [{"name": "host", "mountPath": "/host"}]}
    volumes = [{"name": "host", "hostPath": {"path": str(host), "type": "Directory"}}]
    polite = {"name": "c", "command": ["sh", "-c", script], **mount,
              "lifecycle": {"preStop": {"exec": {"command": ["sh", "-c", "sleep 1; echo prestop >>/host/said"]}}}}
    lines = lambda: said.read_text().split() if said.exists() else []  # noqa: E731
    for name, promise, restart in (("polite", "preStop, SIGTERM, its own end", False),
                                   ("patient", "the same with knarrd killed meanwhile", True)):
        with tap.test(f"a pod within its grace: {promise}"):
            said.unlink(missing_ok=True)
            kubelet.add(pod(name, image, [polite], grace=50, volumes=volumes))
            until(f"{name} is Ready", 90, lambda: ready(kubelet.pod(name)), 0.2)
            asked = kubelet.pod(name)
            assert running(node, asked)
            kubelet.remove(name)
            until("SIGTERM came", 60, lambda: "term" in lines())
            if restart:
                node.kill()
                node.start()
            until(f"{name} has ended", 90, lambda: not running(node, asked), 0.2)
            want = ["prestop", "term", "done"]
            got = list(dict.fromkeys(lines())) if restart else lines()  # the stop is asked for again after a restart
            assert got == want, lines()
    with tap.test("a pod that does not listen is killed at the end of its grace, not before"):
        kubelet.add(pod("deaf", image, [{"name": "c", "command": ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]}],
                        grace=3))
        until("deaf is Ready", 90, lambda: ready(kubelet.pod("deaf")), 0.2)
        asked, began = kubelet.pod("deaf"), time.monotonic()
        kubelet.remove("deaf")
        until("deaf has ended", 90, lambda: not running(node, asked), 0.2)
        assert time.monotonic() - began > 2.9, time.monotonic() - began


def run_sessions(tap, node, kubelet, image, host):
    talk = Talk(node, kubelet)
    talk.remove = lambda: kubelet.remove("talk")
    with tap.test("a pod with stdin and a server becomes Ready"):
        kubelet.add(pod("talk", image, [{"name": "shell", "stdin": True, "command": ["sh", "-c", SHELL]},
                                        {"name": "web", "command": ["nc", "-ll", "-p", "8080", "-e", "cat"]}]))
        until("talk is Ready", 90, lambda: ready(kubelet.pod("talk")), 0.2)
    run_exec(tap, talk)
    run_attach(tap, talk)
    run_forward(tap, talk)
    run_restart(tap, talk)
    run_follow(tap, talk)
    until("talk is gone", 90, lambda: not kubelet.pod("talk"), 0.2)
    run_graceful(tap, talk, image, host)
