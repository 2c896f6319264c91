"""What a native stack needs from the operating system: installed by apt as root on Debian, else named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from docker.stack.base import StackError

POLICY = Path("/usr/sbin/policy-rc.d")
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on every user's PATH; nginx lies there


@dataclass(frozen=True)
class Package:
    name: str
    program: str  # how its presence is told
    service: bool = False  # Debian would start it on its own ports


RUNTIME = (
    Package("nginx", "nginx", service=True),
    Package("prometheus", "prometheus", service=True),
    Package("prometheus-nginx-exporter", "prometheus-nginx-exporter", service=True),
)
TESTS = (*RUNTIME, Package("curl", "curl"), Package("git", "git"), Package("chromium", "chromium"))


def program(name: str) -> str:
    """The path of a program. Raises StackError when it is not installed."""
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))
    if found is None:
        raise StackError(f"{name} is not installed.")
    return found


def ensure(packages: tuple[Package, ...]) -> None:
    """Install what is missing. Raises StackError saying what to install where this user cannot."""
    missing = [package for package in packages if not _has(package.program)]
    names = [package.name for package in missing]
    if not _can_make_venv():
        names += ["python3-venv", "ca-certificates"]
    if not names:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise StackError(
            f"Missing: {', '.join(names)}. Install them first, on Debian: "
            f"apt-get install --no-install-recommends {' '.join(names)}   "
            "(Debian then starts its own nginx and Prometheus: systemctl disable --now nginx prometheus)"
        )
    print(f"Installing by apt: {', '.join(names)}", flush=True)
    with no_service_starts():
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *names)
    for package in missing:
        if package.service:  # nor at the next boot: the stack starts its own
            subprocess.run(["update-rc.d", package.name, "disable"], check=False, capture_output=True)


def _has(name: str) -> bool:
    try:
        program(name)
    except StackError:
        return False
    return True


def _can_make_venv() -> bool:
    """Debian's python3 lacks ensurepip until python3-venv is installed."""
    check = subprocess.run([sys.executable, "-c", "import ensurepip, venv"], check=False, capture_output=True)
    return check.returncode == 0


@contextmanager
def no_service_starts() -> Iterator[None]:
    """Debian's packages ask policy-rc.d whether they may start their service: for this install they may not."""
    aside = POLICY.with_name("policy-rc.d.aside")
    had_one = POLICY.exists()
    if had_one:
        POLICY.rename(aside)
    try:
        POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
        POLICY.chmod(0o755)
        yield
    finally:
        POLICY.unlink(missing_ok=True)
        if had_one:
            aside.rename(POLICY)


def _apt(*arguments: str) -> None:
    command = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", *arguments]
    done = subprocess.run(command, check=False, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
    if done.returncode != 0:
        raise StackError(f"`{' '.join(command)}` failed with code {done.returncode}; its messages are above.")
