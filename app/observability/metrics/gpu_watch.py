"""What NVIDIA's driver knows of the GPUs, read through NVML every few seconds, and its XID errors as they come.

The allocator's figures (`serving_device_memory_…`) are what PyTorch holds; these are the cards' own. They need no
exporter beside the app, so they are the same in containers and as plain processes.
"""

import logging
import os
import threading
from contextlib import suppress
from typing import Any

import pynvml
from prometheus_client import CollectorRegistry, Counter, Gauge

EVERY_MS = 5_000
_KIB = 1024
_log = logging.getLogger(__name__)

# https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html
THROTTLES = {
    "power_cap": pynvml.nvmlClocksThrottleReasonSwPowerCap,
    "thermal": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown | pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
    "power_brake": pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown,
    "hardware": pynvml.nvmlClocksThrottleReasonHwSlowdown,
}


class GpuFamilies:
    """`gpu` is the number that CUDA gives it in bus order, before CUDA_VISIBLE_DEVICES."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("gpu", "uuid")

        def gauge(what: str, meaning: str, *more: str) -> Gauge:
            return Gauge(f"serving_gpu_{what}", meaning, (*labels, *more), registry=registry)

        self.utilization = gauge("utilization_ratio", "Share of the last moments in which a kernel ran, from 0 to 1.")
        self.power = gauge("power_watts", "Power drawn.")
        self.power_limit = gauge("power_limit_watts", "The power cap in force.")
        self.temperature = gauge("temperature_celsius", "Of the chip.")
        self.throttled = gauge("throttled", "1 while clocks are held down for this reason, else 0.", "reason")
        self.memory = gauge("memory_used_bytes", "In use on the card, by whomever.")
        self.others = gauge("memory_of_others_bytes", "In use on the card by other processes.")
        self.pcie = gauge("pcie_bytes_per_second", "Over the bus, sent and received by the card.", "direction")
        self.errors = Counter("serving_gpu_errors", "XID errors that the driver reported.", labels, registry=registry)
        self.last_xid = gauge("last_xid", "NVIDIA's number of the last of them; 0: there was none.")


class GpuWatch:
    """One daemon thread, and none where no driver answers. Figures that a card does not have stay away."""

    def __init__(self, registry: CollectorRegistry, nvml: Any = pynvml) -> None:
        self._registry = registry
        self._nvml = nvml

    def start(self) -> bool:
        """Whether there is something to watch."""
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
        except pynvml.NVMLError:
            return False
        if count == 0:
            return False
        self._families = GpuFamilies(self._registry)
        self._handles = {str(index): self._nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)}
        self._names = {gpu: (gpu, self._nvml.nvmlDeviceGetUUID(handle)) for gpu, handle in self._handles.items()}
        for name in self._names.values():  # a counter whose first sample is 1 hides its first increase
            self._families.errors.labels(*name)
            self._families.last_xid.labels(*name).set(0)
        threading.Thread(target=self._watch, name="gpus", daemon=True).start()
        return True

    def read(self) -> None:
        """All figures of all GPUs, now."""
        for gpu, handle in self._handles.items():
            for figure in (self._load, self._power, self._limits, self._memory, self._bus):
                with suppress(pynvml.NVMLError):  # this card does not have it
                    figure(self._names[gpu], handle)

    def _watch(self) -> None:
        events = self._error_events()
        while True:
            self.read()
            self._wait(events)

    def _error_events(self) -> Any:
        """None where the driver tells no events, as in some virtual machines."""
        try:
            events = self._nvml.nvmlEventSetCreate()
            for handle in self._handles.values():
                self._nvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
        except pynvml.NVMLError:
            return None
        return events

    def _wait(self, events: Any) -> None:
        """For an error, for as long as the figures last."""
        try:
            if events is not None:
                self._tell(self._nvml.nvmlEventSetWait_v2(events, EVERY_MS))
                return
        except pynvml.NVMLError_Timeout:
            return
        except pynvml.NVMLError as error:  # the GPU is lost, say: the driver would answer the same at once
            _log.warning("the driver's events cannot be read", extra={"reason": str(error)})
        threading.Event().wait(EVERY_MS / 1000)

    def _tell(self, event: Any) -> None:
        uuid, xid = self._nvml.nvmlDeviceGetUUID(event.device), int(event.eventData)
        name = next((name for name in self._names.values() if name[1] == uuid), ("unknown", uuid))
        self._families.errors.labels(*name).inc()
        self._families.last_xid.labels(*name).set(xid)
        _log.error("a GPU reported an error", extra={"gpu": name[0], "uuid": uuid, "xid": xid})

    def _load(self, name: tuple[str, str], handle: Any) -> None:
        busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
        self._families.utilization.labels(*name).set(busy)

    def _power(self, name: tuple[str, str], handle: Any) -> None:
        drawn = self._nvml.nvmlDeviceGetPowerUsage(handle) / 1000  # before `labels`, which makes a series of 0
        self._families.power.labels(*name).set(drawn)
        limit = self._nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
        self._families.power_limit.labels(*name).set(limit)

    def _limits(self, name: tuple[str, str], handle: Any) -> None:
        chip = self._nvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU)
        self._families.temperature.labels(*name).set(chip)
        reasons = self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        for reason, bits in THROTTLES.items():
            self._families.throttled.labels(*name, reason).set(bool(reasons & bits))

    def _memory(self, name: tuple[str, str], handle: Any) -> None:
        used = self._nvml.nvmlDeviceGetMemoryInfo(handle).used
        self._families.memory.labels(*name).set(used)
        processes = {each.pid: each.usedGpuMemory for each in self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)}
        ours = processes.get(os.getpid())
        if ours is not None:  # in a container the driver knows this process by another number
            self._families.others.labels(*name).set(max(0, used - ours))

    def _bus(self, name: tuple[str, str], handle: Any) -> None:
        for direction, counter in (
            ("sent", pynvml.NVML_PCIE_UTIL_TX_BYTES),
            ("received", pynvml.NVML_PCIE_UTIL_RX_BYTES),
        ):
            rate = self._nvml.nvmlDeviceGetPcieThroughput(handle, counter) * _KIB
            self._families.pcie.labels(*name, direction).set(rate)
