"""The cards' own figures, from a driver that is made up: NVML's functions with its errors and its structures."""

from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry

from app.observability.metrics.gpu_watch import GpuWatch
from tests.support.nvml import GIB, Nvml

XID = SimpleNamespace(device=1, eventData=79)


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
