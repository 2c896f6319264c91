"""Describes the machine that is measured on, and says whether it is quiet enough."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil
from pydantic import BaseModel

from stack.config import ROOT

QUIET = 0.15
"""Cores that other processes may use. With more, two threads wait for each other at every barrier."""

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


class Machine(BaseModel):
    cpu: str
    flags: list[str]  # of those that matter to matrix multiplication
    cores: int
    memory_gib: float
    python: str
    torch: str
    transformers: str


def describe() -> Machine:
    facts = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in facts)}
    have = named.get("flags", "").split()
    return Machine(
        cpu=f"{named.get('model name', 'unknown')}, family {named.get('cpu family')}, model {named.get('model')}",
        flags=[flag for flag in _FLAGS if flag in have],
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        python=platform.python_version(),
        torch=version("torch"),
        transformers=version("transformers"),
    )


def dtypes() -> list[str]:
    """The types that this CPU multiplies with instructions of its own."""
    return ["float32", *(["bfloat16"] if {"avx512_bf16", "amx_bf16"} & set(describe().flags) else [])]


def commit() -> str:
    """The commit that is checked out, with a + when files differ from it."""
    head = _git("rev-parse", "--short", "HEAD")
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", "app", "bench", "docker", "nginx")
    return f"{head}+" if changed else head


def busy_cores(seconds: float = 2.0) -> float:
    """The number of cores that are in use now."""
    return psutil.cpu_percent(interval=seconds) / 100 * (psutil.cpu_count() or 1)


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=False, cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() or ("" if done.returncode == 0 else "unknown")
