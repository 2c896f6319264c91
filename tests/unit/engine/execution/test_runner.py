"""What a runner does when a request is cancelled, late, or goes wrong."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch

from app.contract.errors import DeadlineExceeded, GenerationFailed, Interrupted, OutOfMemory
from app.contract.events import Finished, FinishReason
from app.contract.requests import SamplingParams
from app.contract.telemetry import EngineLoad, StepDone
from app.engine.errors import DevicePoisonedError
from tests.support.driving import Driver, drive
from tests.support.simgpu import gpus, lost
from tests.support.split import split
from tests.support.tiny import tiny_llama

PROMPT = [5, 6, 7, 8, 9, 10, 11, 12, 13]


@pytest.fixture
def driver() -> Driver:
    return drive(tiny_llama(), max_sequences=3, chunk=16)


def fail_once(driver: Driver, monkeypatch: pytest.MonkeyPatch, error: Exception, when: Callable[[Any], bool]) -> None:
    """The next forward pass for which `when(decision)` holds raises `error`."""
    fail(driver, monkeypatch, [error], when)


def fail(
    driver: Driver, monkeypatch: pytest.MonkeyPatch, pending: list[Exception], when: Callable[[Any], bool]
) -> None:
    """The next steps for which `when(decision)` holds raise these, the last one first."""
    executor = driver.runner._executor
    execute = executor.execute

    def failing(decision: Any) -> Any:
        result = execute(decision)  # what a step wrote before it failed does not matter
        if pending and when(decision):
            raise pending.pop()
        return result

    monkeypatch.setattr(executor, "execute", failing)


def test_cancelled_while_it_waits_prefills_or_decodes_it_frees_its_place(driver: Driver) -> None:
    for name in ("decoding", "running", "prefilling", "waiting"):
        driver.submit(name, PROMPT * (6 if name == "prefilling" else 1), 30)
    driver.run(until=lambda: len(driver.tokens["decoding"]) >= 2)
    for name in ("decoding", "prefilling", "waiting"):
        driver.runner.cancel(name)
    assert (driver.scheduler.running, driver.scheduler.waiting) == (1, 0)
    driver.run()
    assert set(driver.finished) == {"running"}
    assert driver.scheduler.kv.pool.in_use == 0


def test_cancelling_what_is_over_or_unknown_does_nothing(driver: Driver) -> None:
    driver.ask("done", PROMPT)
    driver.runner.cancel("done")
    driver.runner.cancel("never heard of")
    assert driver.ask("next", PROMPT) == driver.tokens["done"]


def test_a_deadline_ends_a_request_at_every_stage(driver: Driver) -> None:
    driver.submit("late", PROMPT, 30, deadline_at=time.monotonic() - 1)
    driver.submit("in time", PROMPT, 5, deadline_at=time.monotonic() + 600)
    driver.run()
    assert isinstance(driver.finished["late"].error, DeadlineExceeded)
    assert driver.tokens["late"] == []
    assert driver.finished["in time"].reason is FinishReason.LENGTH


NO_MEMORY = torch.OutOfMemoryError("no memory")


def test_out_of_memory_once_ends_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = driver.ask("before", PROMPT, 12)
    fail_once(driver, monkeypatch, NO_MEMORY, lambda _: True)
    assert driver.ask("again", PROMPT, 12) == expected
    assert driver.scheduler.limits()["prompt_tokens"] == 16, "the allocator's cache was enough"


def test_out_of_memory_again_and_again_ends_the_largest_demand_and_not_the_latest(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = PROMPT * 30
    expected = {"small": driver.ask("a", PROMPT, 12), "late": driver.ask("b", PROMPT[:5], 12)}
    driver.submit("small", PROMPT, 12)
    driver.run(until=lambda: len(driver.tokens["small"]) >= 3)
    driver.submit("large", long, 12)
    driver.submit("late", PROMPT[:5], 12)
    fail(driver, monkeypatch, [NO_MEMORY] * 12, lambda d: any(chunk.sequence.id == "large" for chunk in d.prefill))
    driver.run()
    assert isinstance(driver.finished["large"].error, OutOfMemory)
    assert {name: driver.tokens[name] for name in expected} == expected


def test_a_seed_repeats_although_a_step_was_computed_twice(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    params = SamplingParams(seed=4, temperature=1.3)
    expected = driver.ask("before", PROMPT, 12, sampling=params)
    driver.submit("again", PROMPT, 12, sampling=params)
    driver.run(until=lambda: len(driver.tokens["again"]) >= 4)
    sample, pending = driver.runner._sampler.sample, [NO_MEMORY]

    def failing(*args: Any) -> Any:
        result = sample(*args) if not pending else [state.number() for state in args[1]]
        if pending:
            raise pending.pop()
        return result

    monkeypatch.setattr(driver.runner._sampler, "sample", failing)
    driver.run()
    assert driver.tokens["again"] == expected


def test_pages_of_a_failed_request_are_used_by_nobody(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    long = PROMPT * 12
    expected = drive(tiny_llama()).ask("x", long, 6)
    cache = driver.runner._executor._cache
    driver.submit("poisoned", long, 6)
    driver.run(until=lambda: bool(driver.tokens["poisoned"]))
    for layer in range(4):
        cache.storage(layer).keys.fill_(torch.nan)
        cache.storage(layer).values.fill_(torch.nan)
    driver.run()
    assert isinstance(driver.finished["poisoned"].error, GenerationFailed)
    assert driver.ask("after", long, 6) == expected
    assert driver.finished["after"].usage.cached_tokens == 0


def test_a_failed_step_ends_its_requests_and_the_next_is_answered(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = driver.ask("before", PROMPT)
    fail_once(driver, monkeypatch, ValueError("a bug, with a secret in its text"), lambda _: True)
    driver.submit("unlucky", PROMPT)
    driver.run()
    error = driver.finished["unlucky"].error
    assert isinstance(error, GenerationFailed)
    assert "secret" not in error.message
    assert driver.ask("after", PROMPT) == expected


def test_a_request_that_can_never_run_ends_alone(driver: Driver) -> None:
    driver.submit("too long", PROMPT, 100_000)
    driver.submit("fine", PROMPT)
    driver.run()
    assert driver.finished["too long"].reason is FinishReason.ERROR
    assert driver.finished["fine"].reason is FinishReason.LENGTH


def test_a_row_without_any_token_fails_alone(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = SamplingParams(seed=1, temperature=0.0, logit_bias=dict.fromkeys(range(512), -math.inf))
    driver.submit("nothing allowed", PROMPT, sampling=everything)
    driver.submit("fine", PROMPT)
    driver.run()
    assert isinstance(driver.finished["nothing allowed"].error, GenerationFailed)
    assert driver.finished["fine"].reason is FinishReason.LENGTH


def test_stopping_ends_everything_with_an_error_that_says_so(driver: Driver) -> None:
    for number in range(5):
        driver.submit(str(number), PROMPT, 40)
    driver.runner.step()
    driver.runner.end_all()
    assert {type(end.error) for end in driver.finished.values()} == {Interrupted}
    assert len(driver.finished) == 5


def test_observers_hear_every_step_and_the_load(driver: Driver) -> None:
    driver.submit("a", PROMPT * 4, 3)
    driver.submit("b", PROMPT, 3)
    driver.run()
    steps = [event for event in driver.heard.events if isinstance(event, StepDone)]
    assert sum(step.tokens for step in steps) == 9 * 5 + 2 * 2  # the last token of each is never computed
    assert {step.kind for step in steps} == {"prefill", "decode"}
    loads = [event for event in driver.heard.events if isinstance(event, EngineLoad)]
    assert max(load.running for load in loads) == 2
    assert {load.waits_for for load in loads} == {"place"}
    last = loads[-1]
    assert (last.running, last.waiting, last.kv.used, last.kv.cached) == (0, 0, 0, 64)  # a full page, and one in part
    assert last.kv.total == driver.runner.kv_tokens


def test_timings_and_usage_add_up(driver: Driver) -> None:
    driver.ask("a", PROMPT, 4)
    end = driver.finished["a"]
    assert (end.usage.prompt_tokens, end.usage.completion_tokens, end.usage.cached_tokens) == (9, 4, 0)
    assert driver.progress["a"].steps == 4
    assert driver.progress["a"].mean_batch == 1


def test_what_a_preempted_request_finds_again_is_not_counted_as_cached() -> None:
    driver = drive(tiny_llama(), kv_tokens=8 * 32)
    prompt = PROMPT * 8
    driver.ask("first", prompt, 2)
    driver.submit("old", PROMPT, 110)
    driver.submit("young", [*prompt, 5], 100)
    driver.run(until=lambda: bool(driver.tokens["young"]))
    first = driver.progress["young"].cached_tokens
    driver.run()
    usage = driver.finished["young"].usage
    assert driver.progress["young"].preemptions > 0, "this test is about preemption"
    assert 64 <= usage.cached_tokens == first <= usage.prompt_tokens


def test_requests_know_the_steps_that_they_shared(driver: Driver) -> None:
    driver.ask("alone", PROMPT, 4)
    driver.submit("a", PROMPT, 6)
    driver.submit("b", PROMPT, 3)
    driver.run()
    alone, first, second = (driver.progress[name] for name in ("alone", "a", "b"))
    assert (alone.first_step, alone.last_step) == (1, 4)
    assert first.first_step == second.first_step == 5
    assert (first.last_step, second.last_step) == (10, 7)


@pytest.fixture
def on_gpus() -> Driver:
    """Two simulated GPUs, of which each step is recorded: when it is launched, sampled and told."""
    model = tiny_llama()
    split(model, 2)
    return drive(model, chunk=16)


def watched(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the runner does from now on, in order."""
    seen: list[str] = []
    runner = driver.runner

    def noted(owner: Any, method: str, note: Callable[[Any], str]) -> None:
        inner = getattr(owner, method)

        def noting(argument: Any, *others: Any) -> Any:
            seen.append(note(argument))
            return inner(argument, *others)

        monkeypatch.setattr(owner, method, noting)

    noted(runner._executor, "execute", lambda decision: "launch a prompt" if decision.prefill else "launch")
    noted(runner._sampler, "sample", lambda _: "sample")
    noted(runner, "_emit", lambda emission: "tell the end" if isinstance(emission[-1][1], Finished) else "tell")
    return seen


@torch.inference_mode()
def test_on_gpus_a_token_is_told_when_the_next_step_is_launched(
    on_gpus: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the event loop writes to clients while the devices compute, and not before they can begin."""
    seen = watched(on_gpus, monkeypatch)
    on_gpus.ask("a", PROMPT, 3)
    steps = ["launch a prompt", "sample", "launch", "tell", "sample", "launch", "tell", "sample"]
    assert seen == [*steps, "tell the end"]


@torch.inference_mode()
def test_no_token_waits_while_the_launch_of_a_prompt_may_take_long(
    on_gpus: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_gpus.submit("a", PROMPT, 8)
    on_gpus.run(until=lambda: len(on_gpus.tokens["a"]) >= 2)
    on_gpus.submit("b", PROMPT[:4], 8)
    seen = watched(on_gpus, monkeypatch)
    on_gpus.runner.step()
    assert seen == ["tell", "launch a prompt", "sample"]


def test_without_a_gpu_a_token_is_told_when_it_is_sampled(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """There a step is computed when it is launched: its end would be too late."""
    seen = watched(driver, monkeypatch)
    driver.ask("a", PROMPT, 2)
    assert seen == ["launch a prompt", "sample", "tell", "launch", "sample", "tell the end"]


@torch.inference_mode()
def test_what_came_before_a_lost_gpu_is_told(on_gpus: Driver) -> None:
    on_gpus.submit("short", PROMPT, 1)
    on_gpus.submit("long", PROMPT[:4], 30)
    on_gpus.runner.step()
    assert not on_gpus.finished
    with lost(gpus()[1]), pytest.raises(DevicePoisonedError):
        on_gpus.run()
    assert on_gpus.finished["short"].reason is FinishReason.LENGTH
