"""What containers need before they start: base images, the app's image for this machine, and the model's weights."""

from __future__ import annotations

import os
import re
import subprocess
import sys

from stack.config import Config
from stack.containers import gpu_access, images, weights
from stack.containers.compose import Compose, upstream_targets
from stack.host.gpus import MODEL, SMALL, look
from stack.protocol import StackError
from stack.upstream_targets import listed

_COMPOSES_OWN = re.compile(r"^ ?(Container|Network|Volume|time=)")


def prepare(config: Config, compose: Compose) -> list[str]:
    """The services to start; `compose` knows the rest. Raises StackError."""
    if not config.remote and weights.is_folder(config.model):
        compose.weights = True
        compose.variables.update(weights.of_folder(config).variables)
    compose.variables.update(images.build_arguments())
    if compose.remote:
        _write_targets(config)
    cards = look(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if compose.vllm:
        compose.variables["VLLM_GPUS"] = str(gpu_access.cards_of_vllm(config, cards))
    compose.gpus = gpu_access.wants_gpus(config, cards)
    if compose.gpus:
        compose.variables.update(images.gpu_build_arguments())
    services = _provide(compose)
    if compose.gpus:
        _prepare_gpus(config, compose)
    if compose.vllm:
        _prepare_vllm(config, compose)
    if not compose.gpus:  # perhaps only now: the image's own plan has the last word
        compose.run("build", "app")
    return services


def _prepare_gpus(config: Config, compose: Compose) -> None:
    """The GPU image, and the weights. Takes `compose.gpus` back where the image says that they do not fit."""
    _try_gpus(compose, gpu_access.ON_PURPOSE)
    _make_volume()
    compose.run("build", "app", "models")
    name = _ask_the_image(compose)
    if name == SMALL:
        compose.gpus = False
        return
    if compose.weights:
        return
    found = weights.of_catalogue(config, name)
    compose.variables.update(found.variables)
    if found.fetch:
        _fetch(compose)


def _write_targets(config: Config) -> None:
    """In place, and for every user: the file is mounted into Prometheus' container."""
    file = upstream_targets(config)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(listed(config.engine_urls), encoding="utf-8")
    file.chmod(0o644)


def _try_gpus(compose: Compose, otherwise: str) -> None:
    image = compose.services()["app"]["build"]["args"]["PYTHON_IMAGE"]
    gpu_access.refuse_gpus_that_containers_cannot_use(image, otherwise)


def _prepare_vllm(config: Config, compose: Compose) -> None:
    """The weights for vLLM's container, which downloads none."""
    _try_gpus(compose, "Unset ENGINE to serve without vLLM.")
    found = weights.of_catalogue(config, MODEL)
    compose.variables.update(found.variables)
    _make_volume()
    if found.fetch:
        compose.run("build", "models")
        _fetch(compose)


def _ask_the_image(compose: Compose) -> str:
    """The model that the app would serve, said by our own image with the GPUs that its container gets.

    Raises StackError with the app's own reason where it would serve none.
    """
    done = compose.ask("run", "--rm", "--no-deps", "-T", "app", "python", "-m", "app", "choose")
    said = "\n".join(line for line in done.stderr.splitlines() if line.strip() and not _COMPOSES_OWN.match(line))
    if done.returncode != 0 or not done.stdout.strip():
        raise StackError(said or "The app's image did not say which model it would serve.")
    print(said, flush=True)
    return done.stdout.split()[-1]


def _fetch(compose: Compose) -> None:
    """In the foreground, so that its bar is seen; a model that is there already takes seconds. Raises StackError."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    try:
        compose.run("run", "--rm", *([] if terminal else ["-T"]), "models")
    except StackError:
        raise StackError(
            "The model could not be downloaded; see the reason above. The next `make up` resumes the download."
        ) from None


def _make_volume() -> None:
    """Does nothing when it is there."""
    made = subprocess.run(["docker", "volume", "create", weights.VOLUME], check=False, capture_output=True, text=True)
    if made.returncode != 0:
        raise StackError(f"The volume {weights.VOLUME} could not be created: {made.stderr.strip()}")


def _provide(compose: Compose) -> list[str]:
    """Pull or build the base images. Returns the services that have one."""
    services = compose.services()
    wanted = images.wanted(services)
    sidecars = [name for name in services if name not in compose.essential]
    missing = images.provide(wanted, optional=sidecars)
    if needed := [reason for name, reason in missing.items() if name not in sidecars]:
        raise StackError(". ".join([*needed, ""]).strip())
    for name, reason in sorted(missing.items()):
        print(f"Starting without {name}: {reason}.")
    if stand_ins := images.stand_ins(wanted):
        print(
            f"Using stand-ins built from Debian packages for: {', '.join(wanted[name] for name in sorted(stand_ins))}"
        )
    return [name for name in services if name not in missing]
