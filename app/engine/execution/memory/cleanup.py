"""Frees unused memory after an answer, on every device of the model, and reports what is in use.

The script that this stack replaces emptied the cache of device 0 only. `empty_cache` gives the allocator's unused
blocks back to the driver. PyTorch gains no memory by it, and it waits for the device, so `Cleaner` runs it while no
request runs (`Cleanup.IDLE`). Reports come after it, so they carry the peak since the last one.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import psutil
import torch

from app.contract.options import Cleanup
from app.contract.telemetry import CleanedUp, DeviceMemory, MemoryRead, Observers
from app.engine.execution.memory import heap

REFRESH_SECONDS = 5.0


class Memory(Protocol):
    """One device's memory."""

    def empty(self) -> None:
        """Free unused memory."""

    def read(self) -> DeviceMemory:
        """What is in use now, and the peak since the last reading."""
        ...


class CudaMemory:
    """A GPU. Figures as in `torch.cuda.memory_stats` and `mem_get_info`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def empty(self) -> None:
        with torch.cuda.device(self._device):  # empty_cache works on the current device
            torch.cuda.empty_cache()

    def read(self) -> DeviceMemory:
        stats = torch.cuda.memory_stats(self._device)
        free, total = torch.cuda.mem_get_info(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        return DeviceMemory(
            device=str(self._device),
            allocated=stats["allocated_bytes.all.current"],
            reserved=stats["reserved_bytes.all.current"],
            free=free,
            total=total,
            peak=stats["allocated_bytes.all.peak"],
            alloc_retries=stats["num_alloc_retries"],
            out_of_memory=stats["num_ooms"],
        )


class ProcessMemory:
    """This process, where there is no GPU: its resident memory, and the machine's."""

    _status = Path("/proc/self/status")
    _clear = Path("/proc/self/clear_refs")

    def empty(self) -> None:
        heap.trim()

    def read(self) -> DeviceMemory:
        resident = psutil.Process().memory_info().rss
        machine = psutil.virtual_memory()
        return DeviceMemory(
            device="cpu",
            allocated=resident,
            reserved=resident,
            free=machine.available,
            total=machine.total,
            peak=max(resident, self._peak()),
        )

    def _peak(self) -> int:
        """The most that was resident since the last call, in bytes (`VmHWM` of proc(5); 5 resets it)."""
        try:
            line = next(line for line in self._status.read_text().splitlines() if line.startswith("VmHWM:"))
        except (OSError, StopIteration):
            return 0
        with contextlib.suppress(OSError):
            self._clear.write_text("5")
        return int(line.split()[1]) * 1024


def memory_of(devices: Sequence[torch.device]) -> list[Memory]:
    return [CudaMemory(device) if device.type == "cuda" else ProcessMemory() for device in devices]


class Cleaner:
    """Runs the cleanup when the policy says so, and tells the observers. For the inference thread only."""

    def __init__(self, policy: Cleanup, memories: Sequence[Memory], observers: Observers) -> None:
        self._policy = policy
        self._memories = memories
        self._observers = observers
        self._actions: list[Callable[[], None]] = []
        self._due = False
        self._read_at = 0.0

    def also(self, action: Callable[[], None]) -> None:
        """Do this in each cleanup as well."""
        self._actions.append(action)

    def step_done(self) -> None:
        """Call it after a step: while requests run, the figures are never older than REFRESH_SECONDS."""
        if time.monotonic() - self._read_at > REFRESH_SECONDS:
            self._read()

    def request_ended(self) -> None:
        """Call it when a request has ended."""
        self._due = True
        if self._policy is Cleanup.REQUEST:
            self.run()

    def no_request_runs(self) -> None:
        """Call it when there is nothing to compute."""
        if self._due and self._policy is Cleanup.OFF:
            self._due = False
            self._read()
        elif self._due:
            self.run()

    def run(self) -> None:
        """Free memory and report, whatever the policy."""
        self._due = False
        before = tuple(memory.read() for memory in self._memories)
        begun = time.perf_counter()
        for action in self._actions:
            action()
        for memory in self._memories:
            memory.empty()
        duration = time.perf_counter() - begun
        after = (memory.read() for memory in self._memories)
        # The first reading reset the peak.
        devices = tuple(replace(read, peak=max(read.peak, at.peak)) for read, at in zip(after, before, strict=True))
        self._read_at = time.monotonic()
        self._observers.notify(CleanedUp(before, devices, duration))

    def _read(self) -> None:
        self._read_at = time.monotonic()
        self._observers.notify(MemoryRead(tuple(memory.read() for memory in self._memories)))
