"""The image of the Dockerfile's GPU target, built by compose as `make up` builds it on a machine with GPUs."""

import os
from pathlib import Path

from stack.config import ROOT, load_config
from stack.containers import images
from stack.containers.compose import Compose


def built(torch_build: str) -> Compose:
    """compose with the GPU part, and the image built. Its project is always the same, or images would pile up."""
    state = ROOT / "var" / f"gpu-image-{torch_build}"
    compose = Compose(load_config({"STATE_DIR": str(state)}, env_file=Path(os.devnull)))
    compose.gpus = True
    compose.variables.update(images.build_arguments(), TORCH_BUILD=torch_build, FLASH_ATTN="auto")
    images.provide(images.wanted({"app": compose.services()["app"]}))
    compose.run("build", "app", "models")
    return compose


def image_of(compose: Compose) -> str:
    return f"{compose.variables['COMPOSE_PROJECT_NAME']}-app"
