"""Which GPUs the driver shows, and why there are none, with a driver's answers put in place of a driver."""

import os
from pathlib import Path
from types import SimpleNamespace

import pynvml
import pytest

from app.models import driver as devices
from app.models.driver import ask_driver, use_bus_order
from app.models.units import GIB
from app.settings import SettingsError

UUIDS = ("GPU-aaaa1111-0000", "GPU-aaaa2222-0000", "GPU-bbbb3333-0000")


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = SimpleNamespace(total=24 * GIB, free=20 * GIB)
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlSystemGetDriverVersion", lambda: "580.95.05")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(UUIDS))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda handle: UUIDS[handle])
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: f"physical {handle}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda _handle: memory)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCudaComputeCapability", lambda _handle: (8, 6))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("visible", "physical", "problem", "broken"),
    [
        (None, [0, 1, 2], None, False),
        ("", [], "hides every GPU", False),
        ("-1", [], "hides every GPU", False),
        ("2,0", [2, 0], None, False),
        ("1, 2", [1, 2], None, False),
        ("1,-1,2", [1], None, False),
        ("GPU-bbbb,GPU-aaaa1111-0000", [2, 0], None, False),
        ("GPU-aaaa", [], "no GPU is 'GPU-aaaa'", True),  # begins two of them
        ("0,7,1", [0], "no GPU is '7'", True),  # nothing after a wrong one
    ],
)
def test_the_visible_gpus_are_those_that_cuda_will_show(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, physical: list[int], problem: str | None, broken: bool
) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    driver = ask_driver()
    assert [gpu.name for gpu in driver.gpus] == [f"physical {number}" for number in physical]
    assert [gpu.index for gpu in driver.gpus] == list(range(len(physical)))
    assert all((gpu.total, gpu.free) == (24 * GIB, 20 * GIB) for gpu in driver.gpus)
    assert driver.broken == broken
    assert driver.problem is None if problem is None else problem in str(driver.problem)


def test_a_gpu_without_memory_of_its_own_has_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_handle: object) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", none)
    assert all(gpu.total > GIB for gpu in ask_driver().gpus)


@pytest.mark.parametrize(
    ("error", "vendor", "said", "broken"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "0x8086", "no NVIDIA driver is here", False),
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "0x10de", "this machine has an NVIDIA GPU", False),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "0x8086", "this machine has no NVIDIA GPU", False),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "0x10de", "modprobe nvidia", True),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "0x10de", "restart the machine", True),
        (pynvml.NVML_ERROR_UNKNOWN, "0x8086", "`nvidia-smi` shows more", True),
    ],
)
def test_no_driver_is_told_from_one_that_fails(  # noqa: PLR0917  # a case's parts
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: int, vendor: str, said: str, broken: bool
) -> None:
    def fails() -> None:
        raise pynvml.NVMLError(error)

    bus = tmp_path / "0000:01:00.0"
    bus.mkdir()
    (bus / "vendor").write_text(f"{vendor}\n")
    (bus / "class").write_text("0x030000\n")
    monkeypatch.setattr(devices, "PCI_DEVICES", tmp_path)
    monkeypatch.setattr(pynvml, "nvmlInit", fails)
    driver = ask_driver()
    assert driver.gpus == ()
    assert said in str(driver.problem)
    assert driver.broken == broken


def test_another_order_of_gpus_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with pytest.raises(SettingsError, match="CUDA_DEVICE_ORDER=FASTEST_FIRST"):
        use_bus_order()
    assert os.environ["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
