"""Which GPUs can be used: the driver lists them, and torch, in a process of its own, computes on each."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.models.driver import BUS_ORDER, Driver, ask_driver, use_bus_order
from app.models.placement import Gpu

TORCH_SECONDS = 50.0
"""For torch's answer: a first import of its CUDA build reads 3 GB. gunicorn ends a worker that is silent for 60."""

_ROOT = Path(__file__).parents[2]
_CUDA_13_DRIVER = 580


@dataclass(frozen=True, slots=True)
class Gpus:
    """`seen` is the driver's list and `usable` torch's; both are numbered as torch numbers them."""

    seen: tuple[Gpu, ...] = ()
    usable: tuple[Gpu, ...] = ()
    problem: str | None = None  # why none, or not all, of the GPUs can be used, and what to do
    broken: bool = False  # there may be GPUs that are in neither list
    driver: str | None = None
    torch: str | None = None
    cuda: str | None = None

    def emptied(self) -> "Gpus":
        """The same GPUs with all their memory free: a running stack frees them before it starts again."""
        seen, usable = (tuple(replace(gpu, free=gpu.total) for gpu in gpus) for gpus in (self.seen, self.usable))
        return replace(self, seen=seen, usable=usable)


def as_given(gpus: Sequence[Gpu]) -> Gpus:
    """GPUs as the command line describes them, unchecked."""
    return Gpus(tuple(gpus), tuple(gpus), None if gpus else "no GPU is given")


def find_gpus() -> Gpus:
    """The GPUs of this machine. Raises SettingsError for an order of GPUs that is not the driver's."""
    use_bus_order()
    driver = ask_driver()
    if driver.version is None or not (driver.gpus or driver.broken):
        return Gpus(problem=driver.problem, broken=driver.broken, driver=driver.version)
    answer = ask_torch()
    usable = tuple(_usable(device, driver.gpus) for device in answer["gpus"] if device["error"] is None)
    return Gpus(
        seen=driver.gpus,
        usable=usable,
        problem=_problem(driver, answer, usable),
        broken=driver.broken,
        driver=driver.version,
        torch=answer["torch"],
        cuda=answer["cuda"],
    )


def ask_torch() -> dict[str, Any]:
    """The answer of `torch_gpus.py`. Where it gives none, `error` says why."""
    command = [sys.executable, "-m", "app.engine.torch_gpus"]
    environment = {**os.environ, "CUDA_DEVICE_ORDER": BUS_ORDER}
    silent: dict[str, Any] = {"torch": None, "cuda": None, "gpus": []}
    try:
        done = subprocess.run(  # noqa: S603  # this interpreter and fixed words
            command, check=False, capture_output=True, text=True, cwd=_ROOT, env=environment, timeout=TORCH_SECONDS
        )
    except subprocess.TimeoutExpired:
        return silent | {"error": f"PyTorch did not say within {TORCH_SECONDS:.0f} seconds what it can use"}
    if done.returncode != 0 or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        return silent | {"error": f"PyTorch's process ended with code {done.returncode}: {last}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _usable(device: Mapping[str, Any], seen: Sequence[Gpu]) -> Gpu:
    """A GPU with torch's number and the driver's count of its memory, which torch's process does not reduce."""
    own = Gpu(
        index=device["index"],
        name=device["name"],
        total=device["total"],
        free=device["free"],
        capability=(device["capability"][0], device["capability"][1]),
        uuid=device["uuid"],
    )
    for gpu in seen:
        if gpu.uuid.removeprefix("GPU-") == own.uuid.removeprefix("GPU-"):
            return replace(gpu, index=own.index)
    return own


def _problem(driver: Driver, answer: Mapping[str, Any], usable: Sequence[Gpu]) -> str | None:
    if driver.problem is not None:  # torch would only say that there is no GPU
        return driver.problem
    if answer["error"] is not None:
        return f"{answer['error']}: {_remedy(driver, answer)}"
    failed = [f"GPU {each['index']} ({each['name']}): {each['error']}" for each in answer["gpus"] if each["error"]]
    if failed:
        return f"PyTorch cannot compute on {'; '.join(failed)}"
    if len(usable) < len(driver.gpus):
        return (
            f"the driver sees {len(driver.gpus)} GPUs and PyTorch {len(usable)}: `nvidia-smi` and the kernel's log "
            "(`dmesg`) show which one fails"
        )
    return None


def _remedy(driver: Driver, answer: Mapping[str, Any]) -> str:
    if answer["torch"] is not None and answer["cuda"] is None:
        return "install its CUDA build (where `make up` sees the GPUs, it does)"
    cuda, version = str(answer["cuda"] or ""), str(driver.version)
    old = version.partition(".")[0].isdecimal() and int(version.partition(".")[0]) < _CUDA_13_DRIVER
    if cuda.startswith("13.") and old:
        return (
            f"driver {version} is older than the {_CUDA_13_DRIVER} that CUDA {cuda} wants: update the driver, or "
            "install PyTorch's build for CUDA 12.6 (`make up` chooses it by the driver)"
        )
    return f"driver {version}, CUDA {cuda or 'unknown'}; `nvidia-smi` and the kernel's log (`dmesg`) show more"
