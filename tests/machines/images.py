"""The machines' images, from Debian packages, and what pip is told on them."""

import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from filelock import FileLock

from stack.config import ROOT

OFFLINE = ROOT / "docker" / "offline"
DOCKERFILES = Path(__file__).parent / "dockerfiles"
_BUILT_ON = {
    "account": "fresh",
    "python": "account",
    "client": "python",
    "compiler": "fresh",
    "prepared": "python",
}


@cache
def image(kind: str, suite: str = "bookworm") -> str:
    """`fresh` is Debian with make and git alone; the others have a Dockerfile each, which says what is there.

    Each is tagged, so that the engine's cache makes the second build quick, and no prune takes it away.
    """
    with FileLock(Path(tempfile.gettempdir()) / f"machines-{suite}.lock"):  # tests run in several processes
        return _build(kind, suite)


def _build(kind: str, suite: str) -> str:
    name = f"stand-in/{kind}-machine:{suite}"
    if kind == "fresh":
        subprocess.run([OFFLINE / "build.sh", "fresh-machine", name, suite], check=True)
        return name
    _build(_BUILT_ON[kind], suite)
    build = ["docker", "build", "--quiet", "--label", f"stand-in={kind}-machine", "--tag", name]
    build += ["--build-arg", f"SUITE={suite}", "--file", str(DOCKERFILES / f"{kind}.Dockerfile"), str(DOCKERFILES)]
    done = subprocess.run(build, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return name


@cache
def pip_conf() -> str:
    """This machine's own pip settings, as far as they hold elsewhere."""
    return subprocess.run([OFFLINE / "pip-conf.sh"], check=True, stdout=subprocess.PIPE, text=True).stdout


def wheel_folders() -> Sequence[str]:
    """Options of `docker run` that put pip's folders of wheels where they are here."""
    lines = [line.partition(" = ") for line in pip_conf().splitlines()]
    folders = [word for name, _, value in lines if name == "find-links" for word in value.split() if word[0] == "/"]
    return [option for folder in folders for option in ("--volume", f"{folder}:{folder}:ro")]
