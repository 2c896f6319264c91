"""The virtual environment's folder: made with a Python that the app runs on, corrected after a move, or made anew."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from stack.config import ROOT
from stack.protocol import StackError

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LEAST = (3, 11)
"""pyproject.toml's requires-python."""
_OTHERS = ("python3.11", "python3.12", "python3.13")
_TELL = "import sys; print(*sys.version_info[:2])"
_CHECK = "import sys, pip; sys.exit(sys.version_info < (3, 11))"
_PLACE = re.compile(rb"(/[^'\"\n]*)/bin/python")
_LONGEST = 100  # characters of a path that still fit the first line of a script, which the kernel bounds

_MINE = ".".join(map(str, sys.version_info[:2]))
MISSING = f"Plain processes need Python 3.11 or newer for the app, but python3 is {_MINE}"
REMEDY = (
    "Install one beside it (Ubuntu 22.04: apt-get install python3.11 python3.11-venv; Debian 12, Ubuntu 24.04 and "
    "newer have it; elsewhere https://docs.astral.sh/uv/guides/install-python/), or use Docker, which needs none"
)


def find_python() -> str | None:
    """This one when it is new enough, else one that is installed beside it; None when there is none."""
    if sys.version_info >= LEAST:
        return sys.executable
    return next((found for found in map(shutil.which, _OTHERS) if found and _is_new_enough(found)), None)


def is_filled(venv: Path = VENV) -> bool:
    """Whether an installation into it was finished once (requirements/install.sh leaves a stamp)."""
    return any(venv.glob(".installed-*"))


def ensure_venv(venv: Path = VENV) -> None:
    """A virtual environment that works, at this place. Raises StackError."""
    _correct_after_a_move(venv)
    if _works(venv / "bin" / "python"):
        return
    python = find_python()
    if python is None:
        raise StackError(f"{MISSING}. {REMEDY}.")
    print(f"Creating the virtual environment {venv}", flush=True)
    command = [python, "-m", "venv", "--clear", str(venv)]
    if subprocess.run(command, check=False).returncode != 0:
        raise StackError(f"`{' '.join(command)}` failed; see its messages above.")


def _works(python: Path) -> bool:
    """False also for one that was left half made, whose base Python is gone, or that is too old."""
    if not python.exists():
        return False
    return subprocess.run([str(python), "-c", _CHECK], check=False, capture_output=True).returncode == 0


def _is_new_enough(python: str) -> bool:
    told = subprocess.run([python, "-c", _TELL], check=False, capture_output=True, text=True)
    return told.returncode == 0 and tuple(map(int, told.stdout.split())) >= LEAST


def _correct_after_a_move(venv: Path) -> None:
    """Write the new path into its scripts, which name their interpreter by its whole path.

    Installing everything again would cost gigabytes. pip's own script has the old path.
    """
    here = str(venv.resolve())  # .venv may be a link
    scripts = Path(here) / "bin"
    pip = scripts / "pip"
    found = _PLACE.search(pip.read_bytes()[:1000]) if pip.is_file() else None
    if found is None or found[1].decode(errors="surrogateescape") == here:
        return
    if len(here) > _LONGEST or " " in here:
        shutil.rmtree(here)
        return
    print(f"The virtual environment has moved to {here}: updating its scripts", flush=True)
    for script in (*scripts.iterdir(), Path(here) / "pyvenv.cfg"):
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            if found[1] in content and b"\0" not in content:
                script.write_bytes(content.replace(found[1], here.encode()))
