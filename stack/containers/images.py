"""Base images: from the engine's store, else from their registry, else stand-ins built from Debian packages."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any, cast

from stack.config import ENV_FILE, ROOT, install_settings, read_env_file
from stack.host.gpus import flash_attention_archs, torch_build
from stack.protocol import StackError

OFFLINE = ROOT / "docker" / "offline"
_REGISTRY_ANSWERED = ("manifest unknown", "not found: ", "denied", "unauthorized", "toomanyrequests")
CUDA_12_BUILD_IMAGE = "nvidia/cuda:12.6.3-devel-ubuntu24.04"
"""In place of compose.gpu.yaml's own where torch is the build for CUDA 12.6: nvcc has to be of the same CUDA."""
_PIP_SETTINGS = ("index-url", "extra-index-url", "find-links", "trusted-host")


def wanted(services: Mapping[str, Any]) -> dict[str, str]:
    """Name → image of everything that has to be there before a build: services' images and build arguments.

    `services` is that part of `docker compose config`. A build argument NAME_IMAGE counts as `name`.
    """
    images = {name: service["image"] for name, service in services.items() if "build" not in service}
    for service in services.values():
        arguments = service.get("build", {}).get("args", {})
        unused = ("WHEELS_IMAGE", *(() if arguments.get("FLASH_ATTN") == "build" else ("CUDA_BUILD_IMAGE",)))
        for argument, value in arguments.items():
            if argument.endswith("_IMAGE") and argument not in unused:
                images[argument.removesuffix("_IMAGE").lower()] = value
    return images


def provide(images: Mapping[str, str], optional: Collection[str] = ()) -> dict[str, str]:
    """Pull or build the images; name → reason of those that cannot be had, and have no stand-in.

    Raises StackError when a registry answers and refuses what is not optional: a wrong name must not turn into a
    stand-in.
    """
    silent: dict[str, str] = {}  # registries that do not answer, and why: asking again would only cost time
    missing = {}
    for name, image in images.items():
        present, stand_in = _present(image), bool(stand_ins({name: image}))
        if present and not stand_in:
            continue
        registry = _registry(image)
        try:
            if not present and registry not in silent:
                reason = _pull(image)
                if reason is None:
                    continue
                silent[registry] = reason
            if (OFFLINE / f"{name}.Dockerfile").is_file():  # does nothing when that stand-in is up to date
                _build_stand_in(name, image)
            else:
                missing[name] = f"no registry answers for {image}, and there is no stand-in for it"
        except StackError as error:
            if name not in optional:
                raise
            missing[name] = str(error).rstrip(".")
    return missing


def stand_ins(images: Mapping[str, str]) -> set[str]:
    """Which of them are stand-ins, also those of an earlier start."""
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


def gpu_build_arguments() -> dict[str, str]:
    """What the driver of this machine decides about the GPU image, unless somebody has."""
    made = install_settings()
    build = made.get("TORCH_BUILD") or torch_build()
    archs = made.get("FLASH_ATTN_CUDA_ARCHS") or flash_attention_archs()
    arguments = {"TORCH_BUILD": build, "FLASH_ATTN_CUDA_ARCHS": archs}
    if build == "cu126" and not (os.environ | read_env_file(ENV_FILE)).get("CUDA_BUILD_IMAGE"):
        arguments["CUDA_BUILD_IMAGE"] = CUDA_12_BUILD_IMAGE
    return arguments


def _present(image: str) -> bool:
    return _docker_text("image", "inspect", "--format", "{{.Id}}", image) != ""


def _registry(image: str) -> str:
    """The registry that a name begins with; empty for the engine's own default."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else ""


def _pull(image: str) -> str | None:
    """None, or why no registry answers. Raises StackError when one answers and refuses."""
    print(f"Pulling {image}", flush=True)
    done = subprocess.run(["docker", "pull", "--quiet", image], check=False, capture_output=True, text=True)
    if done.returncode == 0:
        return None
    reason = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no reason given"
    if any(answer in reason.lower() for answer in _REGISTRY_ANSWERED):
        raise StackError(f"{image} could not be pulled: {reason}")
    print(f"No registry answers for {image}: {reason}", flush=True)
    return reason


def _build_stand_in(kind: str, image: str) -> None:
    if subprocess.run([str(OFFLINE / "build.sh"), kind, image], check=False).returncode != 0:
        raise StackError(f"The stand-in for {image} could not be built; see the messages above.")


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
    print(f"Passing {len(wheels)} wheel(s) from pip's find-links to the build", flush=True)
    with subprocess.Popen(
        ["docker", "import", "-", image], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as engine:
        with tarfile.open(fileobj=cast("IO[bytes]", engine.stdin), mode="w|") as archive:
            for wheel in wheels:
                archive.add(wheel, f"wheels/{wheel.name}")
        cast("IO[bytes]", engine.stdin).close()
    if engine.returncode != 0:
        raise StackError("Docker could not import the wheels from pip's find-links.")
    return image


def _docker_text(*arguments: str) -> str:
    """What the command prints; "" when it fails."""
    done = subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""
