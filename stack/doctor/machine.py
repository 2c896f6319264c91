"""The machine itself: memory, what this user may write, and the clock."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

from stack.config import ROOT, Config
from stack.doctor.finding import Finding, failed, passed, warning
from stack.doctor.wanted import missing_model
from stack.host.gpus import GIB, MODEL, WEIGHTS, Gpus
from stack.install.venvs import VENV, is_filled

SMALL_NEEDS = 2 * GIB
"""The small model in float32 with its KV cache takes 1.5 GiB; nginx, Prometheus and the page cache want some too."""
_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_SLACK = 86_400  # seconds: an archive may carry another time zone's clock


def check_memory(config: Config, gpus: Gpus, *, running: bool) -> Finding:
    free = available_memory()
    if free is None:
        return passed("memory", "not known on this system")
    if config.remote and not config.vllm:
        return passed("memory", f"{free / GIB:.1f} GiB are free; no model is loaded")
    needed = WEIGHTS + GIB if config.model == MODEL and not gpus.found else SMALL_NEEDS
    text = f"{free / GIB:.1f} GiB are free, {needed / GIB:.1f} GiB are needed"
    if running or free >= needed:
        return passed("memory", f"{free / GIB:.1f} GiB are free")
    if free >= needed * 0.75:
        return warning("memory", text, "Close other programs if the start fails")
    return failed("memory", text, "Close other programs, or use a machine with more memory")


def available_memory(meminfo: Path = _MEMINFO, limit: Path = _LIMIT) -> int | None:
    """Bytes that can be had without swapping, within this container's limit where there is one."""
    if not meminfo.is_file():
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", meminfo.read_text(encoding="ascii"), re.MULTILINE)
    if found is None:
        return None
    free = int(found[1]) * 1024
    bound = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    return min(free, int(bound)) if bound.isdecimal() else free


def check_permissions(config: Config, mode: str, gpus: Gpus) -> Iterator[Finding]:
    """What is complete may belong to somebody else: weights on a shared disk, an environment that is installed."""
    folders = {"STATE_DIR": config.state_dir}
    if mode == "native" and missing_model(config, gpus):
        folders["MODELS_DIR"] = config.models_dir
    if mode == "native" and not is_filled():
        folders["the virtual environment"] = VENV
    closed = [f"{name} ({folder})" for name, folder in folders.items() if not _can_write(folder)]
    if closed:
        remedy = "Give them to this user (`sudo chown -R $USER`), or use others (STATE_DIR, MODELS_DIR)"
        yield failed("permissions", f"this user cannot write to {', '.join(closed)}", remedy)
    keys = config.api_keys_file
    if keys is not None and not os.access(keys, os.R_OK):
        yield failed(
            "permissions",
            f"API_KEYS_FILE={keys} cannot be read",
            "Create it or make it readable, or unset API_KEYS_FILE",
        )
    elif not closed:
        yield passed("permissions", "this user can write to the stack's folders")


def _can_write(folder: Path) -> bool:
    while not os.access(folder, os.F_OK):
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def check_clock(root: Path = ROOT) -> Finding:
    """A clock before the newest file here is wrong, and then no certificate is valid yet."""
    newest = max(path.stat().st_mtime for path in root.iterdir() if path.is_file())
    now = time.time()
    if now >= newest - _SLACK:
        return passed("clock", _date(now))
    text = f"it says {_date(now)}, but files here are from {_date(newest)}: TLS certificates will be rejected"
    return failed("clock", text, "Set it: sudo timedatectl set-ntp true")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
