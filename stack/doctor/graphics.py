"""GPUs: the driver against the build of PyTorch, the memory against the plan, and Docker's way to them.

The rule is the app's (app/models/selection.py): cards that could hold the model and cannot be used end the start;
cards that are too small get the small model, and a line says why.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from stack.config import Config, install_settings
from stack.containers.gpu_access import TOOLKIT
from stack.doctor import engine, wanted
from stack.doctor.finding import Finding, failed, passed, warning
from stack.host.gpus import GIB, MODEL, NEW_DRIVER, OLDEST_DRIVER, SMALL, WEIGHTS, Gpus, torch_build

_ON_PURPOSE = f"MODEL={SMALL} serves the small model on purpose"
_BUILDS = {"cuda": "PyTorch's default CUDA build", "cu126": "PyTorch's CUDA 12.6 build", "cpu": "PyTorch's CPU build"}
_CDI = (Path("/etc/cdi"), Path("/var/run/cdi"))
_CDI_SINCE = (29, 2)
"""From this Docker on `--gpus` may use CDI (moby pull request 50228)."""


def check_gpus(config: Config, mode: str, gpus: Gpus) -> Iterator[Finding]:
    if config.remote and not config.vllm:
        yield passed("GPUs", "not used: the engine is remote")
        return
    if not gpus.found:
        yield _without(config, gpus)
        return
    if gpus.problem:
        yield warning("GPUs", gpus.problem, "`nvidia-smi` and the kernel's log (`dmesg`) show which one fails")
    if not gpus.could_hold_the_model(config.gpu_reserve):
        yield _too_small(config, gpus)
    else:
        yield passed("GPUs", str(gpus))
    must = wanted.strict(config, gpus)
    yield _driver_of_vllm(gpus) if config.vllm else _driver(gpus, must=must)
    if mode == "docker":
        yield _toolkit("Without ENGINE the app serves the model itself" if config.vllm else _ON_PURPOSE, must=must)


def _without(config: Config, gpus: Gpus) -> Finding:
    if config.vllm:
        return failed("GPUs", gpus.problem or "none was found", "ENGINE=vllm needs NVIDIA's GPUs and their driver")
    if not gpus.problem:
        return passed("GPUs", "none: the model runs on the CPU")
    remedy = f"Install or repair the driver ({_newest()}); if nvidia-smi fails after an update, restart the machine"
    if gpus.broken and config.model != SMALL:
        return failed("GPUs", gpus.problem, f"{remedy}. {_ON_PURPOSE}")
    return warning("GPUs", f"{gpus.problem}: the model runs on the CPU", remedy)


def _too_small(config: Config, gpus: Gpus) -> Finding:
    need = (
        f"{MODEL} needs {WEIGHTS / GIB:.2f} GiB for its weights, and {config.gpu_reserve:g} GiB of each GPU stay "
        f"free (GPU_RESERVE): too much for {gpus}"
    )
    if config.vllm:
        return failed("GPUs", need, "Unset ENGINE")
    if config.model == MODEL:
        return failed("GPUs", need, f"Unset MODEL to serve {SMALL}; `python -m app plan` has the details")
    if config.model == "auto":
        return warning("GPUs", f"{need}: {SMALL} is served")
    return passed("GPUs", str(gpus))


def _driver(gpus: Gpus, *, must: bool) -> Finding:
    build = install_settings().get("TORCH_BUILD") or torch_build()
    if build == "cuda" and gpus.driver_number < NEW_DRIVER:
        text = f"{_BUILDS[build]} needs driver {NEW_DRIVER} for these cards, but {gpus.driver} is installed"
        remedy = f"Update the driver to {NEW_DRIVER} or newer"
        return failed("driver", text, f"{remedy}. {_ON_PURPOSE}") if must else warning("driver", text, remedy)
    if gpus.driver_number >= OLDEST_DRIVER:
        return passed("driver", f"{gpus.driver}: {_BUILDS.get(build, build)} runs on it")
    text = f"driver {gpus.driver} is older than the {OLDEST_DRIVER} that PyTorch's oldest build needs"
    remedy = f"Update the driver ({_newest()})"
    return failed("driver", text, f"{remedy}. {_ON_PURPOSE}") if must else warning("driver", text, remedy)


def _driver_of_vllm(gpus: Gpus) -> Finding:
    """Only a warning: its image has what lets an older driver of a data centre's card run CUDA 13."""
    if gpus.driver_number >= NEW_DRIVER:
        return passed("driver", f"{gpus.driver}: vLLM's image runs on it")
    text = f"vLLM's image is for CUDA 13, which needs driver {NEW_DRIVER}, but {gpus.driver} is installed"
    return warning("driver", text, "Update the driver, or name an image for CUDA 12 in VLLM_IMAGE")


def _newest() -> str:
    return f"580 or newer is best, {OLDEST_DRIVER} the oldest that works"


def _toolkit(otherwise: str, *, must: bool) -> Finding:
    """Docker reaches GPUs by a runtime, by CDI or by a hook: one is enough. The start itself tries it."""
    told = engine.tell("info", "--format", "{{json .Runtimes}}")
    runtimes = json.loads(told) if told.startswith("{") else {}
    ways = {
        "runtime": "nvidia" in runtimes,
        "hook": shutil.which("nvidia-container-runtime-hook") or shutil.which("nvidia-container-cli"),
    }
    for way, there in ways.items():
        if there:
            return passed("toolkit", f"Docker can use GPUs: NVIDIA's {way} is installed")
    if any(file for folder in _CDI for file in folder.glob("*nvidia*")):
        return _by_cdi(engine.tell("version", "--format", "{{.Server.Version}}"))
    if engine.root() is None:
        return passed(
            "toolkit",
            "Docker's engine is on another machine or in a virtual one: `make up` tries whether it has GPUs",
        )
    text = "Docker cannot use the GPUs: NVIDIA's container toolkit is not installed"
    remedy = f"Install it ({TOOLKIT}) and restart Docker, or start without containers: make up MODE=native"
    return failed("toolkit", text, f"{remedy}. {otherwise}") if must else warning("toolkit", text, remedy)


def _by_cdi(version: str) -> Finding:
    """What only a CDI specification is worth in this version of Docker; "" when it is not known."""
    number = re.match(r"(\d+)\.(\d+)", version)
    if number is None or (int(number[1]), int(number[2])) >= _CDI_SINCE:
        return passed("toolkit", "Docker can use GPUs: NVIDIA's CDI specification is installed")
    since = ".".join(map(str, _CDI_SINCE))
    text = (
        f"only NVIDIA's CDI specification is installed, which Docker uses from {since} on; this is Docker {version}"
    )
    remedy = f"If the start cannot use the GPUs: update Docker, or install the whole container toolkit ({TOOLKIT})"
    return warning("toolkit", text, remedy)
