"""Free disk for a first start: PyTorch and its libraries, the weights, and room for logs and metrics."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stack.config import Config
from stack.containers.compose import project_name
from stack.containers.gpu_access import could_hold
from stack.containers.weights import VOLUME
from stack.doctor import engine
from stack.doctor.finding import Finding, failed, passed, warning
from stack.doctor.wanted import missing_model
from stack.host.gpus import MODEL, SMALL, Gpus
from stack.install.venvs import VENV, is_filled

GB = 10**9
DATA = 3 * GB
"""Logs are bounded to 300 MB a service, and Prometheus to 2 GB."""
_WEIGHTS = {MODEL: 31.5 * GB, SMALL: 0.9 * GB}  # the small one is unpacked and converted beside itself
_ENVIRONMENT = {"cpu": 3 * GB, "gpu": 12 * GB}  # as installed, and once more as the wheels in pip's cache
_IMAGE = {"cpu": 7 * GB, "gpu": 25 * GB}  # the environment as a build stage, in the image, and in the build's cache
_VLLM = 30 * GB  # a guess: its image was not pulled here


@dataclass(frozen=True)
class _Need:
    what: str
    where: Path
    size: float


def check_disk(config: Config, mode: str, gpus: Gpus) -> Iterator[Finding]:
    """One line for each disk."""
    by_disk: dict[int, list[_Need]] = {}
    for need in _needs(config, mode, gpus):
        by_disk.setdefault(_existing(need.where).stat().st_dev, []).append(need)
    for needs in by_disk.values():
        yield _judge(needs)


def _judge(needs: list[_Need]) -> Finding:
    where = _existing(needs[0].where)
    free, wanted = shutil.disk_usage(where).free, sum(need.size for need in needs)
    parts = ", ".join(f"{need.size / GB:.1f} GB for {need.what}" for need in needs)
    text = f"{free / GB:.1f} GB are free at {where}; needed: {parts}"
    if free < wanted - DATA:
        return failed(
            "disk", text, "Free some space, or use another disk (STATE_DIR, MODELS_DIR; Docker's data-root)"
        )
    return warning("disk", text, "Logs and metrics may fill the disk") if free < wanted else passed("disk", text)


def _needs(config: Config, mode: str, gpus: Gpus) -> Iterator[_Need]:
    return _native(config, gpus) if mode == "native" else _docker_host(config, gpus)


def _native(config: Config, gpus: Gpus) -> Iterator[_Need]:
    if not is_filled():
        yield _Need("PyTorch and the packages", VENV, _ENVIRONMENT["gpu" if gpus.found else "cpu"])
    name = missing_model(config, gpus)
    if name is not None:
        missing = _WEIGHTS[name] - _partial(config.models_dir, name)
        yield _Need(f"the weights of {name}", config.models_dir, missing)
    yield _Need("logs and metrics", config.state_dir, DATA)


def _docker_host(config: Config, gpus: Gpus) -> Iterator[_Need]:
    root = engine.root()
    if root is None:
        return
    if not _built(config):
        yield _Need("the images", root, _IMAGE["gpu" if _serves_on_gpus(config, gpus) else "cpu"])
        if config.vllm:
            yield _Need("vLLM's image", root, _VLLM)
    if missing_model(config, gpus) == MODEL and not _in_the_volume(MODEL):  # the small one is in its image
        where = config.models_dir if config.models_dir_given else root
        yield _Need(f"the weights of {MODEL}", where, _WEIGHTS[MODEL] - _partial(config.models_dir, MODEL))
    yield _Need("logs and metrics", root, DATA)


def _serves_on_gpus(config: Config, gpus: Gpus) -> bool:
    """As the start decides: the small model, and cards that are too small, get the CPU image."""
    return not config.remote and bool(gpus.found) and config.model != SMALL and could_hold(config, gpus)


def _partial(models_dir: Path, name: str) -> float:
    """What an interrupted fetch left is not fetched again."""
    return sum(path.stat().st_size for path in (models_dir / f"{name}.partial").rglob("*") if path.is_file())


def _existing(path: Path) -> Path:
    """The folder that a new one would be made in."""
    while not os.access(path, os.F_OK):
        path = path.parent
    return path


def _in_the_volume(name: str) -> bool:
    """Where this user may not look into the volume, True: it exists, so an earlier start began to fill it."""
    mounted = engine.tell("volume", "inspect", "--format", "{{.Mountpoint}}", VOLUME)
    if not mounted:
        return False
    if os.access(mounted, os.R_OK | os.X_OK):
        return os.access(Path(mounted) / name / "manifest.json", os.F_OK)
    return True


def _built(config: Config) -> bool:
    mine = f"label=com.docker.compose.project={project_name(config)}"
    return engine.tell("images", "--quiet", "--filter", mine) != ""
