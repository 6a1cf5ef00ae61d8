#!/usr/bin/env python3
"""AppArmor: a profile that is loaded confines a container and its execs; one that is not, or a kernel without AppArmor, is
an error that names the profile. Loading is the node's business (apparmor_parser); containers name what is there."""
import base64
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "kill"))
from world import Rpc, Tap, World, kubelet_clears_pod_cgroup  # noqa: E402

ENABLED = pathlib.Path("/sys/module/apparmor/parameters/enabled")
ON = ENABLED.exists() and ENABLED.read_text().strip() == "Y"
PARSER = shutil.which("apparmor_parser", path="/usr/sbin:/sbin:/usr/bin:/bin")
PROFILE = """profile {name} flags=(attach_disconnected,mediate_deleted) {{
  file,
  capability,
  network,
  signal,
  deny /forbidden/** w,
}}
"""


def check(good, text):
    if not good:
        raise AssertionError(text)


class Confined:
    """A pod with a container under a profile; an Rpc where it does not start."""

    def __init__(self, w, name, kind, profile="", **security):
        self.w, self.name = w, name
        config = w.pod_config(name, "NODE")
        config["linux"]["security_context"].update(security)
        self.pod = w.cri.RunPodSandbox(config=config)["podSandboxId"]
        wish = w.container_config("c", "sh", "-c", "mkdir -p /forbidden; cat /proc/self/attr/current; exec sleep 1000", net="NODE")
        wish["linux"]["security_context"].update(apparmor={"profile_type": kind, "localhost_ref": profile}, **security)
        try:
            self.container = w.cri.CreateContainer(pod_sandbox_id=self.pod, config=wish,
                                                   sandbox_config=config)["containerId"]
            w.cri.StartContainer(container_id=self.container)
        except Rpc:
            self.end()
            raise

    def end(self):
        self.w.remove_pod(self.pod)
        kubelet_clears_pod_cgroup(self.w, self.name)

    def run(self, *command):
        r = self.w.cri.ExecSync(container_id=self.container, cmd=list(command), timeout="30")
        return r["exitCode"], self.w.text(r["stdout"])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Node(World):
    @staticmethod
    def text(encoded):
        return base64.b64decode(encoded or "").decode()


def refuses(w, name, profile):
    try:
        Confined(w, name, "Localhost", profile).end()
    except Rpc as e:
        check(profile in e.message and "pparmor" in e.message.replace("AppArmor", "apparmor"), f"{e}")
        return e
    raise AssertionError("it started")


def loaded(w, t, profile):
    with t.test("a loaded profile confines a container and its execs"), Confined(w, "one", "Localhost", profile) as c:
        code, said = c.run("cat", "/proc/1/attr/current")
        check(said.startswith(f"{profile} (enforce)"), f"the first process has {said!r}")
        code, said = c.run("cat", "/proc/self/attr/current")
        check(said.startswith(f"{profile} (enforce)"), f"an exec has {said!r}")
        check(c.run("touch", "/allowed")[0] == 0, "what the profile allows is denied")
        check(c.run("touch", "/forbidden/x")[0] != 0, "what the profile denies is allowed")
    with t.test("Unconfined, and a privileged container, are unconfined"):
        for name, kind, more in (("two", "Unconfined", {}), ("three", "RuntimeDefault", {"privileged": True})):
            with Confined(w, name, kind, **more) as c:
                check("unconfined" in c.run("cat", "/proc/self/attr/current")[1], name)
    with t.test("a profile that is not loaded: the error names it, the container has ended with StartError"):
        refuses(w, "four", "knarr-no-such-profile")


def main():
    t = Tap()
    with Node() as w:
        if not ON:
            with t.test("without AppArmor a profile is refused, and the error says so"):
                e = refuses(w, "none", "knarr-test-profile")
                check(e.code == "FailedPrecondition" and "AppArmor is not on" in e.message, f"{e}")
            t.skip("a loaded profile confines a container and its execs", "this kernel runs without AppArmor")
        elif not PARSER:
            t.skip("a loaded profile confines a container and its execs", "apparmor_parser is not installed")
        else:
            profile = f"knarr-test-{w.name}"
            text = PROFILE.format(name=profile).encode()
            subprocess.run([PARSER, "--replace", "--skip-cache"], input=text, check=True)
            try:
                loaded(w, t, profile)
            finally:
                subprocess.run([PARSER, "--remove"], input=text, check=True)
        with t.test("nothing is left"):
            left = w.leftovers()
            check(not left, "\n".join(left))
    t.end()


main()
