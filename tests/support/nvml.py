"""A driver that is made up: NVML's functions, with its errors and its structures."""

# ruff: noqa: N802  # NVML's own names

import os
import queue
import threading
from types import SimpleNamespace
from typing import Any

import pynvml

GIB = 1 << 30


class Nvml:
    """Two GPUs; the second one cannot tell its power. Its events come from a queue."""

    def __init__(self, gpus: int = 2) -> None:
        self.errors: queue.Queue[Any] = queue.Queue()
        self.waits = threading.Semaphore(0)  # released each time that the watch waits for an event
        self._gpus = gpus

    def nvmlInit(self) -> None:
        if not self._gpus:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    def nvmlDeviceGetCount(self) -> int:
        return self._gpus

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, _handle: int) -> Any:
        return SimpleNamespace(gpu=87, memory=40)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        if handle == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return 312_500

    def nvmlDeviceGetEnforcedPowerLimit(self, _handle: int) -> int:
        return 350_000

    def nvmlDeviceGetTemperature(self, _handle: int, _sensor: int) -> int:
        return 71

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return pynvml.nvmlClocksThrottleReasonSwPowerCap if handle == 0 else 0

    def nvmlDeviceGetMemoryInfo(self, _handle: int) -> Any:
        return SimpleNamespace(used=20 * GIB)

    def nvmlDeviceGetComputeRunningProcesses(self, _handle: int) -> list[Any]:
        return [SimpleNamespace(pid=os.getpid(), usedGpuMemory=18 * GIB), SimpleNamespace(pid=1, usedGpuMemory=GIB)]

    def nvmlDeviceGetPcieThroughput(self, _handle: int, counter: int) -> int:
        return 1000 if counter == pynvml.NVML_PCIE_UTIL_TX_BYTES else 2000

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, _handle: int, kinds: int, _events: object) -> None:
        assert kinds == pynvml.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, _events: object, _patience: int) -> Any:
        self.waits.release()
        return self.errors.get()
