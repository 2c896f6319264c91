"""Only a lost device ends the process; a failed allocation and a failed step end their requests."""

from typing import Any

import pytest
import torch

from app.contract.errors import GenerationFailed
from app.engine.errors import DevicePoisonedError
from app.engine.execution.device_faults import lost_device
from tests.support.driving import Driver, drive
from tests.support.simgpu import gpus, lost
from tests.support.split import split
from tests.support.tiny import tiny_llama

PROMPT = [5, 6, 7, 8, 9]

NO_MEMORY = (
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    torch.AcceleratorError("CUDA error: out of memory"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
)


@pytest.fixture
def driver() -> Any:
    with torch.inference_mode():
        model = tiny_llama()
        split(model, 2)
        yield drive(model)


def fail_once(driver: Driver, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    decoder, pending = driver.runner._executor._decoder, [error]
    forward = decoder.forward

    def failing(*args: Any) -> Any:
        if pending:
            raise pending.pop()
        return forward(*args)

    monkeypatch.setattr(decoder, "forward", failing)


@pytest.mark.parametrize("error", NO_MEMORY, ids=lambda error: type(error).__name__)
def test_a_failed_allocation_is_survived_whoever_reports_it(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    expected = driver.ask("before", PROMPT)
    fail_once(driver, monkeypatch, error)
    assert driver.ask("computed twice", PROMPT) == expected


def test_an_error_of_cuda_on_devices_that_still_compute_ends_its_requests_alone(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = driver.ask("before", PROMPT)
    fail_once(driver, monkeypatch, RuntimeError("CUDA error: invalid configuration argument"))
    driver.ask("unlucky", PROMPT)
    assert isinstance(driver.finished["unlucky"].error, GenerationFailed)
    assert driver.ask("after", PROMPT) == expected


@pytest.mark.parametrize("index", [0, 1])
def test_a_device_that_computes_nothing_any_more_ends_the_engine(driver: Driver, index: int) -> None:
    driver.submit("unlucky", PROMPT)
    device = gpus()[index]
    with lost(device), pytest.raises(DevicePoisonedError, match=rf"{device}: .*illegal memory access"):
        driver.run()


def test_a_device_without_memory_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any, **_kwargs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(torch, "ones", full)
    assert lost_device(gpus()) is None
