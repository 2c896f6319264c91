"""What plain processes need from the system: a Python that the app runs on, nginx, and better also Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from stack.doctor.finding import Finding, failed, passed, warning
from stack.install import packages, venvs


def check_software() -> Iterator[Finding]:
    python = venvs.find_python()
    if python is None:
        yield failed("python", venvs.MISSING, venvs.REMEDY)
    else:
        yield passed("python", f"{python} runs the app")
    missing = packages.missing(packages.RUNTIME, python)
    names = packages.names(missing)
    if not missing:
        yield passed("programs", "nginx, Prometheus and nginx's exporter are installed")
    elif packages.can_install():
        yield passed("programs", f"apt will install {names}")
    elif any(package.essential for package in missing):
        yield failed("programs", f"not installed: {names}", packages.remedy(missing))
    else:
        yield warning(
            "programs", f"not installed: {names}; the model is served without them", packages.remedy(missing)
        )
