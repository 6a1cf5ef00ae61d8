"""kubelet's calls from Python, through the Go program cric beside this file (grpc-go and k8s.io/cri-api, as kubelet has)."""
import itertools
import json
import pathlib
import queue
import subprocess
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent


class Rpc(Exception):
    """A call that failed: .code is gRPC's name ("NotFound"), .message the server's sentence."""

    def __init__(self, method, code, message):
        super().__init__(f"{method}: {code}: {message}")
        self.method, self.code, self.message = method, code, message


class Pending:
    """A call under way."""

    def __init__(self, cri, number, method):
        self.cri, self.number, self.method, self.box = cri, number, method, queue.Queue()

    def cancel(self):
        self.cri.send({"cancel": self.number})

    def done(self):
        return not self.box.empty()

    def result(self, seconds=90):
        try:
            a = self.box.get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self.method} is not answered within {seconds} s") from None
        self.box.put(a)
        if a["code"] != "OK":
            raise Rpc(self.method, a["code"], a["message"])
        return a["answer"]


def build_cric(build):
    program = pathlib.Path(build) / "cric"
    subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / "cric", check=True)
    return program


class Cri:
    """`with Cri(program, socket) as cri: cri.ListPodSandbox(filter={…})`: any method by its name, the request's fields
    as protobuf's JSON has them. `later` begins a call and returns a Pending."""

    def __init__(self, program, socket):
        self.process = subprocess.Popen([program, str(socket)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.numbers, self.pending, self.lock = itertools.count(1), {}, threading.Lock()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            answer = json.loads(line)
            with self.lock:
                pending = self.pending.pop(answer["id"])
            pending.box.put(answer)

    def send(self, order):
        with self.lock:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def later(self, method, seconds=60, pad=0, **request):
        p = Pending(self, next(self.numbers), method)
        with self.lock:
            self.pending[p.number] = p
        self.send({"id": p.number, "method": method, "request": request, "seconds": seconds, "pad": pad})
        return p

    def __getattr__(self, method):
        if not method[0].isupper():
            raise AttributeError(method)
        return lambda **request: self.later(method, **request).result()

    def wait_ready(self, seconds=30):
        """Until a list is answered."""
        end = time.monotonic() + seconds
        while True:
            try:
                return self.ListPodSandbox()["items"]
            except Rpc as e:
                if e.code not in ("Unavailable", "DeadlineExceeded") or time.monotonic() > end:
                    raise
                time.sleep(0.01)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(10)


def refused(code, part, call):
    """call() must fail with the code and, in its message, the part."""
    try:
        answer = call()
    except Rpc as e:
        if e.code != code or part not in e.message:
            raise AssertionError(f"wanted {code} with \"{part}\", got {e}") from None
        return e
    raise AssertionError(f"wanted {code}, got the answer {answer}")
