"""System tests through another OCI runtime: the option --handler=PROGRAM of their run scripts."""
import os
import pathlib
import shutil

PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def take(options):
    """The program's path ("" for knarr's own runtime; None where it is not there), and the other options."""
    wished = [o.split("=", 1)[1] for o in options if o.startswith("--handler=")]
    rest = [o for o in options if not o.startswith("--handler=")]
    return (shutil.which(wished[0], path=PATH) if wished else ""), rest


def missing(path):
    """What this machine lacks for it, or ""."""
    unified = pathlib.Path("/sys/fs/cgroup/unified/cgroup.controllers")
    if path is None:
        return "the runtime is not installed"
    if pathlib.Path(path).name == "crun" and unified.exists() and unified.read_text().strip():
        return "crun does not run on cgroup v1 with controllers in the unified hierarchy beside it"
    return ""


def config(path):
    """For knarrd.yaml: pods that name no handler are that one's."""
    return f"default_handler: other\nhandlers:\n  other:\n    path: {path}\n" if path else ""
