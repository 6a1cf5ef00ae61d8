"""A registry's front that misbehaves as told: rules see each request before the registry does."""
import http.client
import http.server
import threading


class Front:
    """`with Front(backend) as f: f.rule = lambda handler: …`. A rule returns True where it has answered
    itself. Requests are kept in f.seen as (method, path, headers)."""

    def __init__(self, backend=None, context=None):
        self.backend, self.context = backend, context
        self.rule = lambda handler: False
        self.seen = []
        self.ending = threading.Event()

    def __enter__(self):
        front = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do(self):
                front.seen.append((self.command, self.path, dict(self.headers)))
                if not front.rule(self):
                    self.forward()

            do_GET = do_HEAD = do_POST = do

            def reply(self, status, body=b"", length=None, close=False, **headers):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name.replace("_", "-"), value)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)
                if close:
                    self.close_connection = True
                return True

            def ask(self):
                """The registry's own answer: (status, headers, body)."""
                c = http.client.HTTPConnection(front.backend, timeout=20)
                keep = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
                c.request(self.command, self.path, headers=keep)
                answer = c.getresponse()
                body = answer.read()
                c.close()
                return answer.status, answer.getheaders(), body

            def forward(self, change=lambda body: body):
                status, headers, body = self.ask()
                body = change(body)
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding", "date"):
                        self.send_header(name, value)
                length = dict((k.lower(), v) for k, v in headers).get("content-length", "0")
                self.send_header("Content-Length", length if self.command == "HEAD" else str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return True

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if self.context:
            self.server.socket = self.context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ending.set()
        self.server.shutdown()
        self.server.server_close()

    def count(self, part):
        return sum(part in path for _, path, _ in self.seen)


def times(n, answer):
    """The rule that answers the first n requests."""
    left = [n]

    def rule(handler):
        if left[0] == 0:
            return False
        left[0] -= 1
        return answer(handler)

    return rule


def on(part, rule):
    return lambda handler: rule(handler) if part in handler.path else False
