"""What a native stack needs from the operating system: installed by apt as root on Debian, else named."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from stack.install import venvs
from stack.protocol import StackError

POLICY = Path("/usr/sbin/policy-rc.d")
_SBIN = ("/usr/local/sbin", "/usr/sbin", "/sbin")  # not on every user's PATH; nginx is there


@dataclass(frozen=True)
class Package:
    name: str
    program: str  # how its presence is told
    service: bool = False  # Debian would start it on its own ports
    essential: bool = True  # without the others the stack serves, and says what is missing


RUNTIME = (
    Package("nginx", "nginx", service=True),
    Package("prometheus", "prometheus", service=True, essential=False),
    Package("prometheus-nginx-exporter", "prometheus-nginx-exporter", service=True, essential=False),
)
TESTS = (
    *(replace(package, essential=True) for package in RUNTIME),
    Package("curl", "curl"),
    Package("git", "git"),
    Package("chromium", "chromium"),
)


def program(name: str) -> str:
    """The path of a program. Raises StackError when it is not installed."""
    found = which(name)
    if found is None:
        raise StackError(f"{name} is not installed.")
    return found


def which(name: str) -> str | None:
    """Its path; None when it is not installed."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_SBIN]))


def missing(packages: tuple[Package, ...], python: str | None) -> tuple[Package, ...]:
    """Those of them that are not here, and what `python`, if there is one, needs for a virtual environment."""
    absent = (each for each in packages if which(each.program) is None)
    return (*absent, *(_missing_for_venv(python) if python else ()))


def names(packages: tuple[Package, ...]) -> str:
    return ", ".join(package.name for package in packages)


def can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def remedy(packages: tuple[Package, ...]) -> str:
    """The line that installs them, where this user cannot."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    line = f"{sudo}apt-get install --no-install-recommends {' '.join(package.name for package in packages)}"
    services = " ".join(package.name for package in packages if package.service)
    disable = f" && {sudo}systemctl disable --now {services}" if services else ""
    return f"On Debian and Ubuntu: {line}{disable}"


def ensure(packages: tuple[Package, ...], python: str | None = sys.executable) -> None:
    """Install what is missing. Raises StackError saying what to install where this user cannot.

    What is not essential is left out where it cannot be had. `python` is to make the virtual environment.
    """
    if python is None:
        raise StackError(f"{venvs.MISSING}. {venvs.REMEDY}.")
    lacking = missing(packages, python)
    essential = tuple(package for package in lacking if package.essential)
    if can_install():
        _install(essential, tuple(package for package in lacking if not package.essential))
    elif essential:
        raise StackError(f"Not installed: {names(lacking)}. {remedy(lacking)}")


def _install(essential: tuple[Package, ...], optional: tuple[Package, ...]) -> None:
    if not (essential or optional):
        return
    print(f"Installing by apt: {names((*essential, *optional))}", flush=True)
    with no_service_starts():
        _apt("update")
        if essential:
            _apt("install", "--yes", "--no-install-recommends", *(package.name for package in essential))
        for package in optional:  # each by itself: a name that this system's archive lacks stops all of a call
            try:
                _apt("install", "--yes", "--no-install-recommends", package.name)
            except StackError as error:
                print(f"Continuing without {package.name}: {error}", flush=True)
    for package in (*essential, *optional):
        if package.service:  # nor at the next boot: the stack starts its own
            subprocess.run(["update-rc.d", package.name, "disable"], check=False, capture_output=True)


def _missing_for_venv(python: str) -> tuple[Package, ...]:
    """Debian's Pythons lack ensurepip until their own package of it is installed."""
    check = subprocess.run([python, "-c", "import ensurepip, venv"], check=False, capture_output=True)
    if check.returncode == 0:
        return ()
    name = Path(python).name
    own = f"{name}-venv" if name.startswith("python3.") else "python3-venv"
    return (Package(own, python), Package("ca-certificates", python))


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
        raise StackError(f"`{' '.join(command)}` failed with code {done.returncode}; see its messages above.")
