"""What the settings ask for on these GPUs, as far as it can be told before anything is installed."""

from __future__ import annotations

import os

from stack.config import Config
from stack.host.gpus import MODEL, SMALL, Gpus


def strict(config: Config, gpus: Gpus) -> bool:
    """Whether a start without these GPUs would be another one than was meant."""
    if config.remote:
        return config.vllm
    if config.model == "auto":
        return gpus.could_hold_the_model(config.gpu_reserve)
    return config.model != SMALL


def missing_model(config: Config, gpus: Gpus) -> str | None:
    """The model of the catalogue that will be served and is not in MODELS_DIR: a fetch writes the manifest last."""
    if (config.remote and not config.vllm) or config.model not in ("auto", MODEL, SMALL):
        return None
    name = MODEL if _is_large(config, gpus) else SMALL
    return None if os.access(config.models_dir / name / "manifest.json", os.F_OK) else name


def _is_large(config: Config, gpus: Gpus) -> bool:
    if config.vllm:
        return True
    if config.model == "auto":
        return bool(gpus.found) and gpus.could_hold_the_model(config.gpu_reserve)
    return config.model == MODEL
