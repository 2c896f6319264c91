"""Base images: from the engine's store, else from their registry, else stand-ins built from Debian packages."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

from docker.stack.base import StackError
from docker.stack.config import ROOT

OFFLINE = ROOT / "docker" / "offline"
_REGISTRY_ANSWERED = ("manifest unknown", "not found: ", "denied", "unauthorized", "toomanyrequests")
_PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host")


def wanted(services: Mapping[str, Any]) -> dict[str, str]:
    """Name → image of everything that has to be there before a build: services' images and build arguments.

    `services` is that part of `docker compose config`. A build argument NAME_IMAGE counts as `name`.
    """
    images = {name: service["image"] for name, service in services.items() if "build" not in service}
    for service in services.values():
        for argument, value in service.get("build", {}).get("args", {}).items():
            if argument.endswith("_IMAGE") and argument != "WHEELS_IMAGE":
                images[argument.removesuffix("_IMAGE").lower()] = value
    return images


def provide(images: Mapping[str, str]) -> set[str]:
    """Bring the images in; the names of those that could not be had, and have no stand-in.

    Raises StackError when a registry answers and refuses: a wrong name must not turn into a stand-in.
    """
    silent: set[str] = set()  # registries that do not answer: asking again would only cost time
    missing = set()
    for name, image in images.items():
        present, stand_in = _present(image), bool(stand_ins({name: image}))
        if present and not stand_in:
            continue
        if not present and _registry(image) not in silent and _pull(image):
            continue
        silent.add(_registry(image))
        if (OFFLINE / f"{name}.Dockerfile").is_file():  # does nothing when that stand-in is there and up to date
            _build_stand_in(name, image)
        else:
            missing.add(name)
    return missing


def stand_ins(images: Mapping[str, str]) -> set[str]:
    """Which of them are stand-ins, whoever built them and when."""
    template = '{{index .Config.Labels "stand-in"}}'
    return {name for name, image in images.items() if _docker_text("image", "inspect", "--format", template, image)}


def build_arguments() -> dict[str, str]:
    """What pip is told inside a build: this machine's own pip settings, with its folders of wheels as an image."""
    settings = _pip_settings()
    folders = [Path(link.removeprefix("file://")) for link in settings["find-links"] if _is_local(link)]
    arguments = {
        f"PIP_{name.upper().replace('-', '_')}": " ".join(value for value in values if not _is_local(value))
        for name, values in settings.items()
    }
    wheels = sorted(wheel for folder in folders for wheel in folder.glob("*.whl"))
    return arguments | ({"WHEELS_IMAGE": _wheels_image(wheels)} if wheels else {})


def _present(image: str) -> bool:
    return _docker_text("image", "inspect", "--format", "{{.Id}}", image) != ""


def _registry(image: str) -> str:
    """The registry that a name begins with; empty for the engine's own default."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else ""


def _pull(image: str) -> bool:
    print(f"Pulling {image}", flush=True)
    done = subprocess.run(["docker", "pull", "--quiet", image], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return True
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
    if any(answer in reason.lower() for answer in _REGISTRY_ANSWERED):
        raise StackError(f"{image} could not be pulled: {reason}")
    print(f"No registry answers for {image}: {reason}", flush=True)
    return False


def _build_stand_in(kind: str, image: str) -> None:
    if subprocess.run([str(OFFLINE / "build.sh"), kind, image], check=False).returncode != 0:
        raise StackError(f"The stand-in for {image} could not be built; the messages above say why.")


def _pip_settings() -> dict[str, list[str]]:
    """What `pip config` knows, from files and environment: name → values. All empty where there is no pip."""
    settings: dict[str, list[str]] = {name: [] for name in _PIP_SETTINGS}
    for python in (sys.executable, str(ROOT / ".venv" / "bin" / "python")):
        try:
            listed = subprocess.run(
                [python, "-m", "pip", "config", "list"], check=False, capture_output=True, text=True
            )
        except FileNotFoundError:
            continue
        if listed.returncode == 0:
            for name, values in re.findall(r"^[^=]*\.([a-z-]+)='(.*)'$", listed.stdout, re.MULTILINE):
                if settings.get(name) == []:  # the first one counts: pip lists the environment before its files
                    settings[name] = values.replace("\\n", " ").split()
            break
    return settings


def _is_local(value: str) -> bool:
    return value.startswith(("/", "file:", "~", "."))


def _wheels_image(wheels: list[Path]) -> str:
    """An image with nothing but the wheels, named by what is in it so that it is made once."""
    facts = [(wheel.name, wheel.stat().st_size, wheel.stat().st_mtime_ns) for wheel in wheels]
    image = f"stand-in/wheels:{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"
    if _present(image):
        return image
    print(f"Handing {len(wheels)} wheel(s) of pip's find-links to the build", flush=True)
    with subprocess.Popen(
        ["docker", "import", "-", image], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as engine:
        with tarfile.open(fileobj=cast("IO[bytes]", engine.stdin), mode="w|") as archive:
            for wheel in wheels:
                archive.add(wheel, f"wheels/{wheel.name}")
        cast("IO[bytes]", engine.stdin).close()
    if engine.returncode != 0:
        raise StackError("The engine did not take the wheels of pip's find-links.")
    return image


def _docker_text(*arguments: str) -> str:
    """What the command prints; "" when it fails."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
