#!/usr/bin/env python3
"""knarr-pull against Debian's docker-registry and a front that misbehaves. Loopback only; leaves nothing behind."""
import base64
import crypt
import hashlib
import json
import os
import pathlib
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "lib"))
import images  # noqa: E402
import registry  # noqa: E402
from agent import Agent, Failed, wait_until  # noqa: E402
from proxy import Front, on, times  # noqa: E402

BIG = os.urandom(3 << 20)


def make_image(extra=b"x"):
    return images.Image([images.layer([("big", BIG), ("extra", extra)]), images.layer([("second", b"2" * 1000)])])


class Hosts:
    """A hosts folder."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="knarr-test-hosts-"))
        self.folder.chmod(0o755)

    def write(self, name, text):
        (self.folder / name).mkdir(exist_ok=True)
        (self.folder / name / "hosts.toml").write_text(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder)


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.registry = cls.enterClassContext(registry.Registry())
        cls.image = make_image()
        cls.digest = cls.image.push(cls.registry.address, "a/b", "1")
        cls.big = json.loads(cls.image.manifest)["layers"][0]

    def front(self, rule=None, **how):
        front = self.enterContext(Front(self.registry.address, **how))
        front.rule = rule or front.rule
        return front

    def assert_image(self, agent):
        manifest, blobs = agent.image()
        self.assertEqual(manifest, json.loads(self.image.manifest))
        self.assertEqual({images.digest(b) for b in blobs}, set(self.image.blobs))

    def fails(self, reference, kind, text, **start):
        with Agent(reference, **start) as a, self.assertRaisesRegex(Failed, text) as caught:
            a.image()
        self.assertEqual(caught.exception.kind, kind)
        return caught.exception.event

    def passes(self, reference, **start):
        with Agent(reference, **start) as a:
            self.assert_image(a)


class RegistriesConf(Case):
    """registries.conf of CRI-O and podman, where no hosts.toml speaks of the registry."""

    def conf(self, text, *more):
        folder = pathlib.Path(self.enterContext(tempfile.TemporaryDirectory(prefix="knarr-test-conf-")))
        folder.chmod(0o755)
        (folder / "registries.conf").write_text(text)
        (folder / "registries.conf.d").mkdir()
        for i, part in enumerate(more):
            (folder / f"registries.conf.d/{i}.conf").write_text(part)
        return {"registriesConf": str(folder / "registries.conf")}

    def test_a_location_stands_for_a_prefix(self):
        how = self.conf(f'[[registry]]\nprefix = "registry.example/team"\nlocation = "{self.registry.address}/a"\n')
        self.passes("registry.example/team/b:1", **how)
        self.passes(f"registry.example/team/b@{self.digest}", **how)

    def test_a_drop_in_replaces_an_entry_and_a_wildcard_matches_below(self):
        bad = f'[[registry]]\nprefix = "*.example"\nlocation = "127.0.0.1:{registry.free_port()}"\n'
        good = f'[[registry]]\nprefix = "*.example"\nlocation = "{self.registry.address}"\n'
        self.passes("x.y.example/a/b:1", **self.conf(bad, good))

    def test_mirrors_come_first_and_the_next_one_helps(self):
        gone, here = self.front(), self.front()
        gone.rule = lambda h: h.reply(404)
        how = self.conf(f'''[[registry]]
location = "registry.example"
[[registry.mirror]]
location = "{gone.address}/none"
insecure = true
[[registry.mirror]]
location = "{here.address}/a"
insecure = true
''')
        self.passes("registry.example/b:1", **how)
        self.assertTrue(gone.count("/v2/none/b/") and here.count("/v2/a/b/"))

    def test_a_mirror_for_digests_is_not_asked_for_a_tag(self):
        mirror = self.front()
        how = self.conf(f'''[[registry]]
prefix = "registry.example"
location = "{self.registry.address}"
mirror-by-digest-only = true
[[registry.mirror]]
location = "{mirror.address}"
insecure = true
''')
        self.passes("registry.example/a/b:1", **how)
        self.assertEqual(mirror.seen, [])
        self.passes(f"registry.example/a/b@{self.digest}", **how)
        self.assertTrue(mirror.count("/v2/a/b/manifests/sha256:"))

    def test_what_is_blocked_is_refused_by_name(self):
        how = self.conf('[[registry]]\nlocation = "registry.example/bad"\nblocked = true\n')
        self.fails("registry.example/bad/x:1", "denied", 'registries.conf blocks "registry.example/bad"', **how)

    def test_hosts_toml_goes_before(self):
        with Hosts() as h:
            h.write("registry.example", f'server = "http://{self.registry.address}"')
            how = self.conf('[[registry]]\nlocation = "registry.example"\nblocked = true\n')
            self.passes("registry.example/a/b:1", hostsDirs=[str(h.folder)], **how)

    def test_a_bad_file_is_named_with_its_line(self):
        self.fails("registry.example/a:1", "invalid", r"registries.conf: .*line 2.*blocke", **self.conf("[[registry]]\nblocke = 1\n"))
        self.fails("registry.example/a:1", "invalid", "version 1", **self.conf("[registries.search]\nregistries = ['a.b']\n"))


class Plain(Case):
    def test_by_tag_and_by_digest(self):
        self.passes(f"{self.registry.address}/a/b:1")
        self.passes(f"{self.registry.address}/a/b@{self.digest}")

    def test_docker_manifests_and_indexes(self):
        docker = images.Image([images.layer([("f", b"1")])], kinds=images.DOCKER)
        docker.push(self.registry.address, "docker", "1")
        digest = images.push_index(self.registry.address, "docker", "list", [docker.descriptor()], images.DOCKER)
        with Agent(f"{self.registry.address}/docker:1") as a:
            self.assertEqual(len(a.image()[1]), 2)
        with Agent(f"{self.registry.address}/docker:list") as a:
            what = a.resolve()
            self.assertEqual((what["digest"], what["mediaType"]), (digest, images.DOCKER["index"]))
            self.assertEqual(len(a.fetch(digest, what["size"], manifest=True)), what["size"])

    def test_what_is_not_there(self):
        self.fails(f"{self.registry.address}/a/b:none", "not found", "404")
        self.fails(f"{self.registry.address}/nobody/is:1", "not found", "404")
        with Agent(f"{self.registry.address}/a/b:1") as a, self.assertRaisesRegex(Failed, "404"):
            a.resolve()
            a.fetch("sha256:" + "0" * 64, 5)

    def test_no_registry_there(self):
        self.fails(f"127.0.0.1:{registry.free_port()}/a:1", "unavailable", "connect")

    def test_bad_references_and_hosts_files(self):
        self.fails("UPPER CASE", "invalid", "UPPER")
        with Hosts() as h:
            h.write("_default", "server = nothing")
            self.fails("reg.example/a:1", "invalid", "hosts.toml: line 1", hostsDirs=[str(h.folder)])

    def test_the_same_bytes_go_into_the_pipe(self):
        with Agent(f"{self.registry.address}/a/b:1") as a, tempfile.TemporaryFile() as file:
            a.resolve()
            out, pipe = os.pipe()
            a.order(self.big["digest"], self.big["size"], file.fileno(), pipe)
            os.close(pipe)
            time.sleep(0.5)  # the pipe is full long before the end: the fetch must not wait for it
            wait_until(lambda: os.fstat(file.fileno()).st_size == self.big["size"])
            with os.fdopen(out, "rb") as reader:
                self.assertEqual(images.digest(reader.read()), self.big["digest"])
            self.assertEqual(a.event()["type"], "done")

    def test_a_reader_that_goes_does_not_stop_the_fetch(self):
        with Agent(f"{self.registry.address}/a/b:1") as a, tempfile.TemporaryFile() as file:
            a.resolve()
            out, pipe = os.pipe()
            a.order(self.big["digest"], self.big["size"], file.fileno(), pipe)
            os.close(pipe)
            os.read(out, 1000)
            os.close(out)
            self.assertEqual(a.event()["type"], "done")

    def test_an_interrupted_fetch_goes_on(self):
        front = self.front()
        with Agent(f"{front.address}/a/b:1") as a:
            a.resolve()
            blob = self.image.blobs[self.big["digest"]]
            self.assertEqual(a.fetch(self.big["digest"], self.big["size"], left=blob[:1234567]), blob)
        self.assertEqual([h["Range"] for _, p, h in front.seen if "blobs" in p], ["bytes=1234567-"])

    def test_a_whole_file_is_only_checked(self):
        front = self.front()
        with Agent(f"{front.address}/a/b:1") as a:
            a.resolve()
            blob = self.image.blobs[self.big["digest"]]
            self.assertEqual(a.fetch(self.big["digest"], self.big["size"], left=blob), blob)
        self.assertEqual(front.count("blobs"), 0)

    def test_a_wrong_rest_is_to_be_discarded(self):
        with Agent(f"{self.registry.address}/a/b:1") as a:
            a.resolve()
            with self.assertRaises(Failed) as caught:
                a.fetch(self.big["digest"], self.big["size"], left=b"wrong")
        self.assertEqual(caught.exception.kind, "corrupt")
        self.assertTrue(caught.exception.event["discard"] and caught.exception.event["again"])

    def test_it_runs_without_privileges_and_ends_with_its_socket(self):
        with Agent(f"{self.registry.address}/a/b:1", username="u", password="secret-word") as a:
            a.resolve()
            proc = pathlib.Path(f"/proc/{a.process.pid}")
            status = dict(line.split(":\t", 1) for line in (proc / "status").read_text().splitlines() if ":\t" in line)
            self.assertEqual(status["NoNewPrivs"], "1")
            if os.geteuid() == 0:
                self.assertEqual(status["Uid"].split(), ["65534"] * 4)
                self.assertEqual(int(status["CapEff"], 16), 0)
            for name in ("cmdline", "environ"):
                self.assertNotIn(b"secret-word", (proc / name).read_bytes())
            a.sock.close()
            self.assertEqual(a.process.wait(10), 0)


class Faults(Case):
    def test_errors_of_the_server_are_tried_again(self):
        front = self.front(times(2, lambda h: h.reply(503)))
        self.passes(f"{front.address}/a/b:1")

    def test_but_not_for_ever(self):
        front = self.front(lambda h: h.reply(500, b'{"errors":[{"code":"X","message":"the disk is full"}]}'))
        self.fails(f"{front.address}/a/b:1", "unavailable", "500")
        self.assertEqual(front.count("manifests"), 5)

    def test_retry_after_is_kept(self):
        front = self.front(times(1, lambda h: h.reply(429, Retry_After="1")))
        began = time.monotonic()
        self.passes(f"{front.address}/a/b:1")
        self.assertGreater(time.monotonic() - began, 1)

    def test_a_retry_after_of_an_hour_is_an_error(self):
        front = self.front(lambda h: h.reply(429, Retry_After="3600"))
        self.fails(f"{front.address}/a/b:1", "exhausted", "come back in 3600 s.*429")

    def test_a_cut_body_is_continued(self):
        def cut(handler):
            status, _, body = handler.ask()
            if status != 200 or handler.command == "HEAD" or len(body) < 1 << 20:
                return handler.forward()
            return handler.reply(200, body[:1 << 20], length=len(body), close=True)

        front = self.front(on("blobs", cut))
        self.passes(f"{front.address}/a/b:1")
        self.assertIn("bytes=1048576-", [h.get("Range") for _, _, h in front.seen])

    def test_a_server_without_ranges_is_continued_too(self):
        def cut(handler):
            del handler.headers["Range"]
            _, _, body = handler.ask()
            cut.n += 1
            return handler.reply(200, body[:cut.n << 20], length=len(body), close=True)

        cut.n = 0
        front = self.front(on(self.big["digest"], cut))
        self.passes(f"{front.address}/a/b:1")

    def test_a_stalled_body_is_continued(self):
        def stall(handler):
            _, _, body = handler.ask()
            handler.reply(200, body[:100000], length=len(body))
            handler.wfile.flush()
            handler.close_connection = True
            return not handler.server or not time.sleep(3)

        front = self.front(on(self.big["digest"], times(1, stall)))
        self.passes(f"{front.address}/a/b:1", idleMs=1000)
        self.assertIn("bytes=100000-", [h.get("Range") for _, _, h in front.seen])

    def test_a_dead_stall_is_an_error(self):
        front = self.front(lambda h: not front.ending.wait(8))
        event = self.fails(f"{front.address}/a/b:1", "timeout", "nothing received for 300 ms", idleMs=300)
        self.assertFalse(event["discard"] if "discard" in event else False)

    def test_wrong_bytes_are_refused(self):
        front = self.front(on(self.big["digest"], lambda h: h.forward(lambda b: b[:-1] + bytes([b[-1] ^ 1]))))
        event = self.fails(f"{front.address}/a/b:1", "corrupt", "has the digest")
        self.assertTrue(event["discard"])

    def test_wrong_sizes_are_refused(self):
        front = self.front(on(self.big["digest"], lambda h: h.forward(lambda b: b + b"more")))
        self.fails(f"{front.address}/a/b:1", "corrupt", "bytes, not")

    def test_more_than_was_said_is_refused_without_a_length(self):
        def endless(handler):
            handler.send_response(200)
            handler.send_header("Connection", "close")
            handler.end_headers()
            handler.close_connection = True
            for _ in range(100):
                handler.wfile.write(BIG)
            return True

        front = self.front(on(self.big["digest"], endless))
        self.fails(f"{front.address}/a/b:1", "corrupt", "sends [0-9]+ bytes, not")

    def test_a_wrong_manifest_is_refused(self):
        front = self.front(on("manifests", lambda h: h.command == "GET" and h.forward(lambda b: b.replace(b"sha256", b"sha255", 1))))
        self.fails(f"{front.address}/a/b:1", "corrupt", "digest")

    def test_a_registry_whose_head_says_nothing(self):
        def bare(handler):
            _, _, body = handler.ask()
            return handler.reply(200, body, Content_Type=images.OCI["manifest"])

        self.passes(f"{self.front(on('manifests', bare)).address}/a/b:1")

    def test_a_huge_manifest_is_refused(self):
        front = self.front(on("manifests", lambda h: h.reply(200, b" " * (5 << 20), Content_Type=images.OCI["manifest"])))
        self.fails(f"{front.address}/a/b:1", "exhausted", "more than")

    def test_redirects_are_followed_and_bounded(self):
        second = self.front()
        front = self.front(on("blobs", lambda h: h.reply(307, Location=f"http://{second.address}{h.path}")))
        self.passes(f"{front.address}/a/b:1")
        loop = self.front(lambda h: h.reply(307, Location=h.path))
        self.fails(f"{loop.address}/a/b:1", "unavailable", "redirects")
        self.assertEqual(len(loop.seen), 11)
        self.fails(f"{self.front(lambda h: h.reply(307, Location='file:///etc/passwd')).address}/a/b:1", "unavailable", "not http")

    def test_the_login_does_not_go_to_another_host(self):
        second = self.front()

        def login(handler):
            if "Authorization" not in handler.headers:
                return handler.reply(401, WWW_Authenticate='Basic realm="x"')
            return "blobs" in handler.path and handler.reply(302, Location=f"http://{second.address}{handler.path}")

        front = self.front(login)
        self.passes(f"{front.address}/a/b:1", username="u", password="p")
        self.assertTrue(second.seen)
        self.assertFalse([h for _, _, h in second.seen if "Authorization" in h])

    def test_rubbish_headers(self):
        front = self.front(lambda h: h.reply(401, WWW_Authenticate='Bearer realm="unended'))
        self.fails(f"{front.address}/a/b:1", "invalid", "WWW-Authenticate")
        front = self.front(lambda h: h.reply(401, WWW_Authenticate="Negotiate"))
        self.fails(f"{front.address}/a/b:1", "unauthenticated", "of a kind")


class Mirrors(Case):
    def test_in_their_order_and_with_their_capabilities(self):
        dead, puller, resolver = registry.free_port(), self.front(), self.front()
        with Hosts() as h:
            h.write("images.example", f'[host."http://127.0.0.1:{dead}"]\n[host."http://{puller.address}"]\n'
                    f'capabilities = ["pull"]\n[host."http://{resolver.address}"]\n')
            self.passes("images.example/a/b:1", hostsDirs=["/nonexistent", str(h.folder)])
        self.assertEqual([m for m, _, _ in resolver.seen], ["HEAD"])
        self.assertEqual({m for m, _, _ in puller.seen}, {"GET"})
        self.assertTrue(all(p.endswith("?ns=images.example") for _, p, _ in puller.seen))

    def test_a_mirror_with_wrong_bytes_is_not_asked_again(self):
        liar = self.front(on(self.big["digest"], lambda h: h.forward(lambda b: b[::-1])))
        with Hosts() as h:
            h.write("_default", f'server = "http://{self.registry.address}"\n[host."http://{liar.address}"]\n')
            with Agent("images.example/a/b:1", hostsDirs=[str(h.folder)]) as a:
                a.resolve()
                with self.assertRaises(Failed) as caught:
                    a.fetch(self.big["digest"], self.big["size"])
                self.assertTrue(caught.exception.event["discard"] and caught.exception.event["again"])
                a.fetch(self.big["digest"], self.big["size"])

    def test_headers_and_paths(self):
        def strip(handler):
            handler.path = handler.path.replace("/api/up/", "/v2/")
            return False

        front = self.front(strip)
        with Hosts() as h:
            h.write("images.example", f'server = "http://{front.address}/api/up"\noverride_path = true\n[header]\nx-one = "1"\n')
            self.passes("images.example/a/b:1", hostsDirs=[str(h.folder)])
        self.assertTrue(all(h.get("x-one") == "1" for _, _, h in front.seen))


def certificate(folder, name="localhost"):
    """A CA, and a server's key and certificate for 127.0.0.1 signed by it."""
    run = lambda *a, **k: subprocess.run(["openssl", *a], cwd=folder, check=True, capture_output=True, **k)
    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.crt")
    run("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", "tls.key", "-out", "tls.csr")
    (pathlib.Path(folder) / "ext").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    run("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext", "-out", "tls.crt")


class Tls(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="knarr-test-tls-"))
        certificate(cls.folder)
        cls.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        cls.context.load_cert_chain(f"{cls.folder}/tls.crt", f"{cls.folder}/tls.key")

    def test_a_private_ca(self):
        front = self.front(context=self.context)
        with Hosts() as h:
            h.write("images.example", f'server = "https://{front.address}"\nca = "{self.folder}/ca.crt"\n')
            self.passes("images.example/a/b:1", hostsDirs=[str(h.folder)])
            h.write("images.example", f'server = "https://{front.address}"\n')
            self.fails("images.example/a/b:1", "unavailable", "certificate", hostsDirs=[str(h.folder)])
            h.write("images.example", f'server = "https://{front.address}"\nskip_verify = true\n')
            self.passes("images.example/a/b:1", hostsDirs=[str(h.folder)])

    def test_a_private_ca_in_certs_d(self):
        front = self.front(context=self.context)
        with tempfile.TemporaryDirectory(prefix="knarr-test-certs-") as name:
            folder = pathlib.Path(name)
            folder.chmod(0o755)
            host = f"localhost:{front.address.split(':')[1]}"
            (folder / "registries.conf").write_text(f'[[registry]]\nprefix = "registry.example"\nlocation = "{host}"\n')
            (folder / "certs.d" / host).mkdir(parents=True)
            shutil.copy(f"{self.folder}/ca.crt", folder / "certs.d" / host / "ca.crt")
            self.passes("registry.example/a/b:1", certsDirs=[str(folder / "certs.d")],
                        registriesConf=str(folder / "registries.conf"))

    def test_a_loopback_registry_may_have_any_certificate(self):
        self.passes(f"{self.front(context=self.context).address}/a/b:1")

    def test_a_client_certificate(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{self.folder}/tls.crt", f"{self.folder}/tls.key")
        context.load_verify_locations(f"{self.folder}/ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        front = self.front(context=context)
        with Hosts() as h:
            shutil.copy(f"{self.folder}/tls.key", h.folder / "key")
            (h.folder / "key").chmod(0o600)  # read while still root
            h.write("images.example", f'server = "https://{front.address}"\nca = "{self.folder}/ca.crt"\n'
                    f'client = [["{self.folder}/tls.crt", "../key"]]\n')
            self.passes("images.example/a/b:1", hostsDirs=[str(h.folder)])
            h.write("images.example", f'server = "https://{front.address}"\nca = "{self.folder}/ca.crt"\n')
            self.fails("images.example/a/b:1", "unavailable", "https://127", hostsDirs=[str(h.folder)])


class Basic(unittest.TestCase):
    def test_htpasswd(self):
        with tempfile.TemporaryDirectory(prefix="knarr-test-auth-") as folder:
            file = pathlib.Path(folder) / "htpasswd"
            file.write_text("user:" + crypt.crypt("pass:word", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)) + "\n")
            login = base64.b64encode(b"user:pass:word").decode()
            with registry.Registry(auth=f"auth: {{htpasswd: {{realm: x, path: {file}}}}}") as r:
                image = make_image()
                image.push(r.address, "a/b", "1", {"Authorization": f"Basic {login}"})
                reference = f"{r.address}/a/b:1"
                for how in ({"username": "user", "password": "pass:word"}, {"auth": login},
                            {"auth": login, "serverAddress": f"https://{r.address}/v1/"}):
                    with Agent(reference, **how) as a:
                        self.assertEqual(len(a.image()[1]), 3)
                for how, text in (({}, "user name"), ({"username": "user", "password": "no"}, "401"),
                                  ({"auth": login, "serverAddress": "other.example"}, "user name")):
                    with Agent(reference, **how) as a, self.assertRaisesRegex(Failed, text) as caught:
                        a.resolve()
                    self.assertEqual(caught.exception.kind, "unauthenticated")
                with Agent(reference, auth="!") as a, self.assertRaisesRegex(Failed, "base64"):
                    a.resolve()


def b64url(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Tokens(unittest.TestCase):
    """A token service of our own signs what the registry checks."""

    @classmethod
    def setUpClass(cls):
        cls.folder = cls.enterClassContext(tempfile.TemporaryDirectory(prefix="knarr-test-token-"))
        certificate(cls.folder)
        cls.service = cls.enterClassContext(Front())
        cls.service.rule = cls.answer
        cls.lifetime = 300
        cls.registry = cls.enterClassContext(registry.Registry(
            auth=f"auth: {{token: {{realm: 'http://{cls.service.address}/token', service: test, issuer: me, "
                 f"rootcertbundle: {cls.folder}/ca.crt}}}}"))
        cls.image = make_image()
        for name in ("public", "private"):
            token = cls.sign(f"repository:{name}:pull,push")
            cls.image.push(cls.registry.address, name, "1", {"Authorization": f"Bearer {token}"})

    @classmethod
    def sign(cls, scope):
        der = subprocess.run(["openssl", "x509", "-in", f"{cls.folder}/tls.crt", "-outform", "DER"], check=True, capture_output=True).stdout
        kind, name, actions = scope.split(":")
        head = {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]}
        now = int(time.time())
        body = {"iss": "me", "aud": "test", "sub": "", "exp": now + cls.lifetime, "nbf": now - 60, "iat": now, "jti": str(time.time()),
                "access": [{"type": kind, "name": name, "actions": actions.split(",")}]}
        text = b64url(json.dumps(head).encode()) + "." + b64url(json.dumps(body).encode())
        mark = subprocess.run(["openssl", "dgst", "-sha256", "-sign", f"{cls.folder}/tls.key"], input=text.encode(), check=True, capture_output=True)
        return text + "." + b64url(mark.stdout)

    @classmethod
    def answer(cls, handler):
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        user = handler.headers.get("Authorization", "")
        if handler.command == "POST":
            query = urllib.parse.parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
            user = "ok" if query["refresh_token"] == ["refresh me"] else "no"
        good = "Basic " + base64.b64encode(b"user:pass").decode()
        scope = query["scope"][0]
        if user not in ("", good, "ok") or (not user and "private" in scope):
            return handler.reply(401, b'{"details":"no"}')
        return handler.reply(200, json.dumps({"token": cls.sign(scope)}).encode(), Content_Type="application/json")

    def pulls(self, name, **how):
        with Agent(f"{self.registry.address}/{name}:1", **how) as a:
            self.assertEqual(len(a.image()[1]), 3)

    def test_anonymous_and_with_a_password(self):
        self.pulls("public")
        self.pulls("private", username="user", password="pass")

    def test_an_identity_token(self):
        self.pulls("private", identityToken="refresh me")

    def test_a_registry_token(self):
        self.pulls("private", registryToken=self.sign("repository:private:pull"))

    def test_refused(self):
        for how in ({}, {"username": "user", "password": "wrong"}, {"registryToken": "rubbish"}):
            with Agent(f"{self.registry.address}/private:1", **how) as a, self.assertRaises(Failed) as caught:
                a.resolve()
            self.assertEqual(caught.exception.kind, "unauthenticated", caught.exception)

    def test_one_token_serves_all_requests_and_is_renewed(self):
        before = len(self.service.seen)
        with Agent(f"{self.registry.address}/public:1") as a:
            manifest, _ = a.image()
            self.assertEqual(len(self.service.seen) - before, 1)
        type(self).lifetime = -120  # beyond the registry's leeway
        try:
            with Agent(f"{self.registry.address}/public:1") as a, self.assertRaises(Failed):
                a.resolve()
        finally:
            type(self).lifetime = 300


if __name__ == "__main__":
    unittest.main(verbosity=2)
