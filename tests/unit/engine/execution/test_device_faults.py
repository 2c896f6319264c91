"""Only a lost device ends the process; a failed allocation and a failed step end their requests."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from app.contract.errors import GenerationFailed
from app.contract.requests import SamplingParams
from app.engine.errors import DevicePoisonedError
from app.engine.execution.device_faults import lost_device
from tests.support.driving import Driver, drive
from tests.support.failing import Failing
from tests.support.simgpu import gpus, lost
from tests.support.split import split
from tests.support.tiny import tiny_llama

PROMPT = [5, 6, 7, 8, 9]

MORE_THAN_THERE_IS = 10**16  # more bytes than a process has addresses


def raising(error: Exception) -> Callable[[], object]:
    def fail() -> None:
        raise error

    return fail


NO_MEMORY = {
    "cuBLAS": raising(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "CUDA's driver": raising(torch.AcceleratorError("CUDA error: out of memory")),
    "torch on a GPU": raising(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")),
    "Triton": raising(RuntimeError("Triton Error [CUDA]: out of memory")),
    "torch on a CPU": lambda: torch.empty(MORE_THAN_THERE_IS),
    "torch's operations on a CPU": lambda: torch.empty(1).expand(MORE_THAN_THERE_IS).unbind(),
    "NumPy": lambda: np.empty(MORE_THAN_THERE_IS),
    "Python": lambda: bytearray(MORE_THAN_THERE_IS),
}
"""GPUs' errors as they are reported, and what no host has memory for."""


@pytest.fixture
def driver() -> Any:
    with torch.inference_mode():
        model = tiny_llama()
        split(model, 2)
        yield drive(model)


def fail_once(driver: Driver, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], object]) -> None:
    decoder, pending = driver.runner._executor._decoder, [fail]
    forward = decoder.forward

    def failing(*args: Any) -> Any:
        if pending:
            pending.pop()()
        return forward(*args)

    monkeypatch.setattr(decoder, "forward", failing)


@pytest.mark.parametrize("fail", NO_MEMORY.values(), ids=NO_MEMORY)
def test_a_failed_allocation_is_survived_whoever_reports_it(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, fail: Callable[[], object]
) -> None:
    expected = driver.ask("before", PROMPT)
    fail_once(driver, monkeypatch, fail)
    assert driver.ask("computed twice", PROMPT) == expected


def talking(driver: Driver) -> None:
    """Requests that decode, each under rules that a step counted twice breaks, and one with a long prompt."""
    asked: dict[str, dict[str, Any]] = {
        "penalized": {"temperature": 0.0, "repetition_penalty": 1.3, "top_logprobs": 2},
        "drawn": {"temperature": 1.5, "top_p": 0.9, "frequency_penalty": 0.3, "top_logprobs": 0},
        "long enough": {"temperature": 0.0, "min_tokens": 20},
    }
    for name, rules in asked.items():
        stop = frozenset(range(0, 512, 2)) if "min_tokens" in rules else frozenset()
        driver.submit(name, PROMPT, 60, sampling=SamplingParams(seed=1, **rules), stop_tokens=stop)
    driver.submit("prompt", [5 + place * 7 % 400 for place in range(400)], 5, prompt_logprobs=1)


def test_a_step_that_finds_no_memory_at_any_part_of_it_changes_no_answer() -> None:
    model = tiny_llama()
    expected, got = drive(model, chunk=8), drive(model, chunk=8)
    talking(expected)
    talking(got)
    expected.run()
    at, reached = 1, True
    while reached:  # every 23rd operation is enough to meet each part of a step: the whole step has many hundreds
        with Failing(at) as failing:
            assert got.runner.step()
        reached = failing.reached
        at += 23
        got.runner.step()
    got.run()
    assert got.tokens == expected.tokens
    assert got.prompts == expected.prompts


def test_an_error_of_cuda_on_devices_that_still_compute_ends_its_requests_alone(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = driver.ask("before", PROMPT)
    fail_once(driver, monkeypatch, raising(RuntimeError("CUDA error: invalid configuration argument")))
    driver.ask("unlucky", PROMPT)
    assert isinstance(driver.finished["unlucky"].error, GenerationFailed)
    assert driver.ask("after", PROMPT) == expected


@pytest.mark.parametrize("index", [0, 1])
def test_a_device_that_computes_nothing_any_more_ends_the_engine(driver: Driver, index: int) -> None:
    driver.submit("unlucky", PROMPT)
    device = gpus()[index]
    with lost(device), pytest.raises(DevicePoisonedError, match=rf"{device}: .*illegal memory access"):
        driver.run()


@pytest.mark.parametrize("fail", NO_MEMORY.values(), ids=NO_MEMORY)
def test_a_device_without_memory_is_not_lost(monkeypatch: pytest.MonkeyPatch, fail: Callable[[], object]) -> None:
    monkeypatch.setattr(torch, "ones", lambda *_args, **_kwargs: fail())
    assert lost_device(gpus()) is None
