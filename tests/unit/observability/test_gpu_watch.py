"""The cards' own figures, from a driver that is made up: NVML's functions with its errors and its structures."""

# ruff: noqa: N802  # NVML's own names

import os
import queue
import threading
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from prometheus_client import CollectorRegistry

from app.observability.gpu_watch import GpuWatch

GIB = 1 << 30
XID = SimpleNamespace(device=1, eventData=79)


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


class Watched:
    def __init__(self, nvml: Nvml) -> None:
        self.registry = CollectorRegistry()
        self.nvml = nvml
        self.started = GpuWatch(self.registry, nvml).start()

    def once_it_waits(self) -> "Watched":
        assert self.nvml.waits.acquire(timeout=30)
        return self

    def value(self, what: str, gpu: int, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"serving_gpu_{what}", {"gpu": str(gpu), "uuid": f"GPU-{gpu}"} | labels)


def test_each_card_tells_its_figures_in_base_units() -> None:
    watched = Watched(Nvml()).once_it_waits()
    assert watched.value("utilization_ratio", 0) == 0.87
    assert (watched.value("power_watts", 0), watched.value("power_limit_watts", 0)) == (312.5, 350.0)
    assert watched.value("temperature_celsius", 0) == 71
    assert watched.value("memory_used_bytes", 0) == 20 * GIB
    assert watched.value("memory_of_others_bytes", 0) == 2 * GIB
    assert watched.value("pcie_bytes_per_second", 0, direction="sent") == 1_024_000
    assert watched.value("throttled", 0, reason="power_cap") == 1
    assert watched.value("throttled", 1, reason="power_cap") == 0


def test_what_a_card_cannot_tell_stays_away_and_the_rest_comes() -> None:
    watched = Watched(Nvml()).once_it_waits()
    assert watched.value("power_watts", 1) is None
    assert watched.value("temperature_celsius", 1) == 71


def test_an_error_is_counted_from_zero_when_it_comes_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    watched = Watched(Nvml()).once_it_waits()
    assert (watched.value("errors_total", 1), watched.value("last_xid", 1)) == (0, 0)
    watched.nvml.errors.put(XID)
    watched.once_it_waits()
    assert (watched.value("errors_total", 1), watched.value("last_xid", 1)) == (1, 79)
    assert watched.value("errors_total", 0) == 0
    (record,) = [each for each in caplog.records if each.message == "a GPU reported an error"]
    assert record.__dict__["xid"] == 79


def test_without_a_driver_there_is_nothing_to_watch() -> None:
    watched = Watched(Nvml(gpus=0))
    assert not watched.started
    assert list(watched.registry.collect()) == []
