"""Folders for code that is compiled at run time on GPUs, and whether this machine can compile.

inductor and Triton build a small C library for each kernel and load it: they need a C compiler, Python's headers, and
a folder that can be written to and executed from. Their default is below /tmp, which containers mount noexec and lose
at every start.
"""

import os
import shutil
import subprocess
import sysconfig
from contextlib import suppress
from pathlib import Path

VARIABLES = {"TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor"}
"""The libraries read these when they first compile. A value that the operator has set stays."""

_COMPILERS = ("gcc", "clang", "cc")


def use_caches(folder: Path) -> list[str]:
    """Give the libraries folders below `folder`. Returns what this machine lacks for compiling, each with a
    remedy."""
    places = {name: Path(os.environ.get(name) or folder.resolve() / sub) for name, sub in VARIABLES.items()}
    missing = []
    for name, place in places.items():
        os.environ[name] = str(place)
        missing += _unfit(place)
    missing += _without_compiler()
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append("Python's headers are not installed: on Debian and Ubuntu that is python3-dev")
    return missing


def _unfit(place: Path) -> list[str]:
    """Why code cannot be built and run in a folder, if it cannot. Creates the folder, for this user only."""
    trial = place / f".trial-{os.getpid()}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        trial.write_text("#!/bin/sh\n", encoding="ascii")
        trial.chmod(0o700)
    except OSError as error:
        return [f"{place} cannot be written to ({error.strerror}): set CACHE_DIR to a folder that can"]
    try:
        subprocess.run([str(trial)], check=True)  # noqa: S603  # an empty script of ours
    except PermissionError:
        return [f"nothing can be executed in {place} (is it mounted noexec?): set CACHE_DIR to a folder where it can"]
    finally:
        with suppress(OSError):
            trial.unlink()
    return []


def _without_compiler() -> list[str]:
    """Set CC where it is not set: Triton looks for CC, gcc and clang, and never for cc."""
    named = os.environ.get("CC")
    if named:
        return [] if shutil.which(named.split()[0]) else [f"CC={named} is not installed"]
    found = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if found is None:
        return ["no C compiler is installed (gcc, clang or cc; CC names another)"]
    os.environ["CC"] = found
    return []
