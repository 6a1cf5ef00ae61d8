"""knarrd as a systemd service: the unit of packaging/, for this boot only, under a name and with a configuration of its own."""
import pathlib
import signal
import subprocess

from node import Knarrd, until

UNITS = pathlib.Path("/run/systemd/system")


def systemctl(*words, check=True):
    return subprocess.run(["systemctl", *words], check=check, capture_output=True, text=True, timeout=120,
                          stdin=subprocess.DEVNULL)


def systemd_runs():
    """Whether systemd is this machine's first process."""
    if not UNITS.parent.is_dir():
        return False
    return subprocess.run(["systemctl", "show-environment"], capture_output=True, check=False).returncode == 0


class Service(Knarrd):
    """A Knarrd whose start and end are systemd's."""

    def __init__(self, build, **options):
        super().__init__(build, **options)
        self.unit = f"knarr-test-{self.name}.service"

    def install(self):
        text = (self.build / "packaging/knarrd.service").read_text()
        lines = []
        for line in text.splitlines():
            key, _, command = line.partition("=")
            if key in ("ExecStart", "ExecStartPre"):
                program = self.program("knarrd").resolve()
                line = " ".join([f"{key}={program}", "--config", str(self.config), *command.split()[1:]])
            lines.append(line)
            if line == "[Service]":
                lines.append(f"StandardError=append:{self.log}")
        (UNITS / self.unit).write_text("\n".join(lines) + "\n")
        systemctl("daemon-reload")

    def start(self, wait=True):
        if not (UNITS / self.unit).exists():
            self.install()
        systemctl("start", self.unit)

    def kill(self, sig=signal.SIGKILL):
        if sig == signal.SIGKILL:
            main = self.show("MainPID")
            systemctl("kill", "--signal=KILL", "--kill-who=main", self.unit)
            until("knarrd is dead", 20, lambda: self.show("MainPID") != main)
            return
        systemctl("stop", self.unit, check=False)
        systemctl("reset-failed", self.unit, check=False)
        (UNITS / self.unit).unlink(missing_ok=True)
        systemctl("daemon-reload", check=False)

    def show(self, name):
        return systemctl("show", "--value", "-p", name, self.unit).stdout.strip()
