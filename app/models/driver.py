"""Asks NVIDIA's driver, through NVML, which GPUs the machine has.

torch is not asked here: that starts CUDA, which takes seconds and hundreds of MiB per GPU, and belongs to the
inference thread. `gpus.py` asks torch in a process of its own. GPUs are counted in the order of the bus, and torch
counts them in the same order when CUDA_DEVICE_ORDER is PCI_BUS_ID.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pynvml

from app.models.memory import available_memory, total_memory
from app.models.placement import Gpu
from app.settings import SettingsError

BUS_ORDER = "PCI_BUS_ID"
PCI_DEVICES = Path("/sys/bus/pci/devices")
_NVIDIA, _DISPLAY = "0x10de", "0x03"  # a PCI vendor, and the class of graphics cards and accelerators
_HIDE = {"", "-1"}
"""First entries of CUDA_VISIBLE_DEVICES that hide every GPU on purpose. A wrong number hides them by mistake."""

_REMEDIES = {
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "load its kernel module (`modprobe nvidia`), or install the driver again",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "the driver was updated while it ran: restart the machine",
    pynvml.NVML_ERROR_NO_PERMISSION: "let this user read and write /dev/nvidia*",
    pynvml.NVML_ERROR_GPU_IS_LOST: "a GPU has fallen off the bus: restart the machine",
}


@dataclass(frozen=True, slots=True)
class Driver:
    """What the driver shows to this process."""

    version: str | None  # None: it does not answer
    gpus: tuple[Gpu, ...]  # those that CUDA_VISIBLE_DEVICES lets through, numbered as CUDA numbers them
    problem: str | None  # why GPUs are missing from the list
    broken: bool  # the list may lack GPUs that were not hidden on purpose


def use_bus_order() -> None:
    """Make CUDA count the GPUs as the driver does. Raises SettingsError.

    CUDA reads the variable when it starts. Another order cannot be overridden: CUDA_VISIBLE_DEVICES may count by it.
    """
    order = os.environ.setdefault("CUDA_DEVICE_ORDER", BUS_ORDER)
    if order != BUS_ORDER:
        raise SettingsError(
            f"CUDA_DEVICE_ORDER={order}: GPUs are counted in the order of the bus here, as nvidia-smi counts them. "
            f"Unset it or say {BUS_ORDER}, and name GPUs in CUDA_VISIBLE_DEVICES by that order, or by UUID."
        )


def ask_driver() -> Driver:
    """The GPUs that this process may use, or why there are none."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in _HIDE:
        return Driver(None, (), f"CUDA_VISIBLE_DEVICES={visible} hides every GPU", broken=False)
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _without_driver(error)
    try:
        return _ask(visible)
    except pynvml.NVMLError as error:
        return Driver(None, (), _say(error), broken=True)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _without_driver(error: pynvml.NVMLError) -> Driver:
    present = _on_the_bus()
    if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
        there = "; this machine has an NVIDIA GPU, which a driver (in a container: `--gpus all`) would show"
        return Driver(None, (), f"no NVIDIA driver is here{there if present else ''}", broken=False)
    if error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED and not present:
        return Driver(None, (), "this machine has no NVIDIA GPU", broken=False)
    return Driver(None, (), _say(error), broken=True)


def _on_the_bus() -> bool:
    """Whether the machine has an NVIDIA GPU, whatever its driver does."""
    for device in PCI_DEVICES.glob("*"):
        with suppress(OSError):
            vendor, kind = ((device / name).read_text(encoding="ascii") for name in ("vendor", "class"))
            if vendor.startswith(_NVIDIA) and kind.startswith(_DISPLAY):
                return True
    return False


def _say(error: pynvml.NVMLError) -> str:
    remedy = _REMEDIES.get(error.value, "`nvidia-smi` shows more")
    return f"NVIDIA's driver does not answer ({error}): {remedy}"


def _ask(visible: str | None) -> Driver:
    every = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
    version = str(pynvml.nvmlSystemGetDriverVersion())
    if not every:
        return Driver(version, (), "the driver sees no GPU", broken=False)
    handles, wrong = _visible(every, visible)
    gpus = tuple(_gpu(index, handle) for index, handle in enumerate(handles))
    if wrong is None:
        return Driver(version, gpus, None, broken=False)
    problem = f"CUDA_VISIBLE_DEVICES={visible}: no GPU is {wrong!r}; `nvidia-smi -L` lists numbers and UUIDs"
    return Driver(version, gpus, problem, broken=True)


def _visible(every: Sequence[object], visible: str | None) -> tuple[list[object], str | None]:
    """The GPUs that CUDA shows, and the wrong name that made it stop, if there is one."""
    if visible is None:
        return list(every), None
    handles: list[object] = []
    for name in map(str.strip, visible.split(",")):
        handle = _handle(every, name)
        if handle is None:
            return handles, None if name in _HIDE else name
        handles.append(handle)
    return handles, None


def _handle(every: Sequence[object], name: str) -> object | None:
    """The GPU with this number, or with the only UUID that begins with this name."""
    if name.isdecimal():
        return every[int(name)] if int(name) < len(every) else None
    found = [handle for handle in every if name and str(pynvml.nvmlDeviceGetUUID(handle)).startswith(name)]
    return found[0] if len(found) == 1 else None


def _gpu(index: int, handle: object) -> Gpu:
    total, free = _memory(handle)
    major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
    return Gpu(
        index=index,
        name=str(pynvml.nvmlDeviceGetName(handle)),
        total=total,
        free=free,
        capability=(int(major), int(minor)),
        uuid=str(pynvml.nvmlDeviceGetUUID(handle)),
    )


def _memory(handle: object) -> tuple[int, int]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError_NotSupported:  # a GPU without memory of its own uses the machine's
        return total_memory(), available_memory()
    return int(memory.total), int(memory.free)
