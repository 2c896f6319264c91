"""Cleanup after an answer: when it runs, on which devices, and what observers hear."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch

from app.contract.options import Cleanup
from app.contract.telemetry import CleanedUp, DeviceMemory, MemoryRead, Observers
from app.engine.execution.memory.cleanup import Cleaner, ProcessMemory, memory_of
from tests.support.driving import Driver, Heard, drive
from tests.support.tiny import tiny_llama


@dataclass
class FakeGpu:
    """A GPU whose allocator holds two blocks until it is emptied."""

    name: str
    emptied: int = 0

    def empty(self) -> None:
        self.emptied += 1

    def read(self) -> DeviceMemory:
        reserved = 100 if self.emptied else 300
        return DeviceMemory(self.name, 100, reserved, 1000 - reserved, 1000, 250)


def driven(policy: Cleanup) -> tuple[Driver, list[FakeGpu]]:
    gpus = [FakeGpu("cuda:0"), FakeGpu("cuda:1")]
    return drive(tiny_llama(), cleanup=policy, memories=gpus), gpus


def cleanups(driver: Driver) -> list[CleanedUp]:
    return [event for event in driver.heard.events if isinstance(event, CleanedUp)]


def test_idle_cleans_every_device_once_when_the_last_answer_is_over() -> None:
    driver, gpus = driven(Cleanup.IDLE)
    for name, tokens in (("a", 2), ("b", 5), ("c", 9)):
        driver.submit(name, [3, 4, 5], tokens)
    driver.run(until=lambda: "b" in driver.finished)
    assert not cleanups(driver), "not while another sequence runs"
    driver.run()
    driver.run()
    assert [gpu.emptied for gpu in gpus] == [1, 1]
    assert [device.device for device in cleanups(driver)[0].devices] == ["cuda:0", "cuda:1"]
    assert {device.reserved for device in cleanups(driver)[0].devices} == {100}, "read after it was emptied"


def test_request_cleans_after_each_answer() -> None:
    driver, gpus = driven(Cleanup.REQUEST)
    for name, tokens in (("a", 2), ("b", 5)):
        driver.submit(name, [3, 4, 5], tokens)
    driver.run()
    assert [gpu.emptied for gpu in gpus] == [2, 2]


def test_off_never_cleans() -> None:
    driver, gpus = driven(Cleanup.OFF)
    driver.ask("a", [3, 4, 5])
    assert [gpu.emptied for gpu in gpus] == [0, 0]


def reads(driver: Driver) -> list[MemoryRead]:
    return [event for event in driver.heard.events if isinstance(event, MemoryRead)]


def test_without_cleanups_the_memory_is_read_when_the_last_answer_is_over() -> None:
    driver, _ = driven(Cleanup.OFF)
    driver.submit("a", [3, 4, 5], 5)
    driver.runner.step()
    before = len(reads(driver))
    driver.run()
    driver.run()
    assert len(reads(driver)) == before + 1


def test_while_requests_run_it_is_read_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    driver, gpus = driven(Cleanup.IDLE)
    driver.submit("a", [3, 4, 5], 50)
    for _ in range(3):
        driver.runner.step()
    assert len(reads(driver)) == 1
    monkeypatch.setattr("app.engine.execution.memory.cleanup.REFRESH_SECONDS", 0.0)
    for _ in range(3):
        driver.runner.step()
    assert len(reads(driver)) == 4
    assert [gpu.emptied for gpu in gpus] == [0, 0]


def test_a_cleanup_tells_what_was_held_before() -> None:
    driver, _ = driven(Cleanup.IDLE)
    driver.ask("a", [3, 4, 5])
    driver.run()
    (cleaned,) = cleanups(driver)
    assert {device.reserved for device in cleaned.before} == {300}
    assert cleaned.freed() == {"cuda:0": 200, "cuda:1": 200}


@pytest.mark.parametrize("policy", [Cleanup.IDLE, Cleanup.REQUEST])
def test_a_cancelled_request_is_cleaned_up_after_too(policy: Cleanup) -> None:
    driver, gpus = driven(policy)
    driver.submit("a", [3, 4, 5], 50)
    driver.runner.step()
    driver.runner.cancel("a")
    driver.run()
    assert [gpu.emptied for gpu in gpus] == [1, 1]


def test_without_a_gpu_the_process_is_read() -> None:
    heard = Heard()
    Cleaner(Cleanup.IDLE, [ProcessMemory()], Observers([heard])).run()
    (event,) = heard.events
    assert isinstance(event, CleanedUp)
    (device,) = event.devices
    assert device.device == "cpu"
    assert 10 * 2**20 < device.allocated <= device.peak < device.total


def test_a_gpu_is_emptied_while_it_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """`empty_cache` works on the current device: the old script cleaned device 0 only."""
    current, emptied = [torch.device("cuda:0")], []

    @contextmanager
    def device(target: torch.device) -> Iterator[None]:
        current.append(target)
        yield
        current.pop()

    stats = {"allocated_bytes.all.current": 1, "allocated_bytes.all.peak": 5, "reserved_bytes.all.current": 2}
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(str(current[-1])))
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda _: {**stats, "num_alloc_retries": 6, "num_ooms": 7})
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3, 4))
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda _: None)
    memories = memory_of([torch.device("cuda:0"), torch.device("cuda:1")])
    for memory in memories:
        memory.empty()
    assert emptied == ["cuda:0", "cuda:1"]
    assert memories[1].read() == DeviceMemory("cuda:1", 1, 2, 3, 4, 5, alloc_retries=6, out_of_memory=7)
