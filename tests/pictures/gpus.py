"""Two GPUs that are made up, so that the panels of GPUs have something to draw on a machine without one.

The product's own watch and metrics export them; only the driver below and the events of the memory are invented.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pynvml
from prometheus_client import CollectorRegistry, start_http_server

from app.contract.telemetry import CleanedUp, DeviceMemory, MemoryRead
from app.observability.metrics.gpu_watch import GpuWatch
from app.observability.metrics.observer import Metrics
from tests.support.nvml import GIB, Nvml

_EVERY = 5.0  # seconds between two readings of the memory
_CLEANUP_EACH = 4  # readings
_FIRST_ERROR = 120.0  # seconds


class MovingNvml(Nvml):
    """Its figures move, each GPU's a little behind the other's; an XID error comes after two minutes."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = time.monotonic()
        self._error_told = False

    def wave(self, handle: int) -> float:
        """From 0 to 1."""
        return 0.5 + 0.5 * math.sin((time.monotonic() - self._begun) / 25 - handle)

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:  # noqa: N802  # NVML's own name
        return SimpleNamespace(gpu=round(35 + 60 * self.wave(handle)), memory=40)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802  # NVML's own name
        return round(1000 * (90 + 240 * self.wave(handle)))

    def nvmlDeviceGetTemperature(self, handle: int, _sensor: int) -> int:  # noqa: N802  # NVML's own name
        return round(45 + 35 * self.wave(handle))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:  # noqa: N802  # NVML's own name
        return pynvml.nvmlClocksThrottleReasonSwPowerCap if self.wave(handle) > 0.9 else 0

    def nvmlDeviceGetPcieThroughput(self, handle: int, counter: int) -> int:  # noqa: N802  # NVML's own name
        sent = counter == pynvml.NVML_PCIE_UTIL_TX_BYTES
        return round((9_000 if sent else 4_000) * (0.2 + self.wave(handle)))

    def nvmlEventSetWait_v2(self, _events: object, patience: int) -> Any:  # noqa: N802  # NVML's own name
        time.sleep(patience / 1000)
        if self._error_told or time.monotonic() - self._begun < _FIRST_ERROR:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        self._error_told = True
        return SimpleNamespace(device=1, eventData=48)


@contextmanager
def exposed(port: int) -> Iterator[None]:
    """Their metrics at that port of loopback, alone: the rest of the app's would be a second, idle app."""
    nvml, registry, stop = MovingNvml(), CollectorRegistry(), threading.Event()
    metrics = Metrics(CollectorRegistry())
    GpuWatch(registry, nvml).start()
    for family in vars(metrics._memory).values():  # its families without the others
        registry.register(family)
    server, _ = start_http_server(port, addr="127.0.0.1", registry=registry)
    moving = threading.Thread(target=_move, args=(metrics, nvml, stop), daemon=True)
    moving.start()
    try:
        yield
    finally:
        stop.set()
        moving.join()
        server.shutdown()


def _move(metrics: Metrics, nvml: MovingNvml, stop: threading.Event) -> None:
    count = 0
    while not stop.wait(_EVERY):
        count += 1
        before = tuple(_memory(number, nvml.wave(number)) for number in (0, 1))
        if count % _CLEANUP_EACH:
            metrics.notify(MemoryRead(before))
        else:
            metrics.notify(CleanedUp(before, tuple(_memory(number, 0.1) for number in (0, 1)), duration=0.006))


def _memory(number: int, share: float) -> DeviceMemory:
    held, total = 15 * GIB, 24 * GIB
    reserved = held + round(share * 6 * GIB)
    return DeviceMemory(
        device=f"cuda:{number}",
        allocated=held + round(share * 4 * GIB),
        reserved=reserved,
        free=total - reserved - GIB // 2,
        total=total,
        peak=held + round(share * 5 * GIB),
    )
