"""Several answers to one request: admitted together or not at all, ended together, told to the observers once."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.engine import Capacity
from app.contract.errors import InvalidRequest, OutOfMemory, Overloaded, PromptTooLong
from app.contract.events import (
    EngineEvent,
    Finished,
    FinishReason,
    ServiceEvent,
    TextEvent,
    Timings,
    TokenEvent,
    Usage,
)
from app.contract.requests import ANONYMOUS, EngineRequest, GenerationRequest, Operation, SamplingParams
from app.contract.telemetry import FirstToken, Observers, TokenGap
from app.engine.grammars.constraint import Constraint
from app.serving.choices import Choices, each_choice, overall, summed_usage
from app.serving.prompt.prompts import Prompts
from app.serving.service import GenerationService
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

REQUEST = GenerationRequest(
    id="r",
    operation=Operation.TEXT_COMPLETION,
    sampling=SamplingParams(seed=1),
    prompt=(100, 101, 102),
    max_tokens=4,
    n=3,
)


async def serve(
    engine: ControlledEngine, prompts: Prompts, recorder: Recorder, max_waiting: int = 128
) -> GenerationService:
    await engine.start()
    return GenerationService(
        engine, prompts, Observers([recorder]), Settings(max_waiting=max_waiting, _env_file=None)
    )


async def read(choices: Choices) -> list[list[str]]:
    """Each choice's text, and how it ended."""
    read: dict[int, list[str]] = {}
    async with choices:
        async for index, event in choices:
            if isinstance(event, TextEvent):
                read.setdefault(index, [""])[0] += event.text
            elif isinstance(event, Finished):
                read.setdefault(index, [""]).append(event.reason)
    return [read[index] for index in sorted(read)]


@given(st.integers(0, 2**63 - 1))
def test_every_choice_has_a_seed_of_its_own(seed: int) -> None:
    request = replace(REQUEST, n=16, sampling=SamplingParams(seed=seed))
    seeds = [choice.sampling.seed for choice in each_choice([request])]
    assert seeds[0] == seed
    assert len(set(seeds)) == 16
    assert all(0 <= one < 2**63 for one in seeds)
    assert seeds == [choice.sampling.seed for choice in each_choice([request])]


async def test_choices_differ_and_repeat(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(), prompts, recorder)
    first = await read(await service.open(REQUEST))
    assert len({text for text, _ in first}) == 3
    assert [reason for _, reason in first] == ["length"] * 3
    assert first == await read(await service.open(REQUEST))
    alone = await read(await service.open(replace(REQUEST, n=1)))
    assert alone == first[:1]


async def test_one_request_is_told_once_with_all_its_choices(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(), prompts, recorder)
    texts = await read(await service.open(REQUEST))
    told = recorder.request()
    assert recorder.requests.empty()
    assert (told.status, told.error_code) == (200, None)
    assert told.finished is not None
    assert told.finished.reason is FinishReason.LENGTH
    assert told.finished.usage == Usage(prompt_tokens=3, completion_tokens=12)
    assert [choice.response for choice in told.choices] == [text for text, _ in texts]
    assert [choice.request.sampling.seed for choice in told.choices] == [
        choice.sampling.seed for choice in each_choice([REQUEST])
    ]


async def test_the_first_token_of_a_request_is_told_once_and_every_gap(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(), prompts, recorder)
    await read(await service.open(REQUEST))
    told = recorder.request()
    (first,) = [event for event in recorder.others if isinstance(event, FirstToken)]
    assert first.seconds == pytest.approx(told.time_to_first_token)
    gaps = [event for event in recorder.others if isinstance(event, TokenGap)]
    assert len(gaps) == 12 - 3, "four tokens in each of three answers"


async def test_one_choice_is_told_as_it_always_was(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(), prompts, recorder)
    ((text, _),) = await read(await service.open(replace(REQUEST, n=1)))
    told = recorder.request()
    assert (told.response, told.choices) == (text, ())


async def test_each_prompt_counts_once(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(), prompts, recorder)
    other = replace(REQUEST, prompt=(5, 6, 7, 8, 9))
    assert len(await read(await service.open(REQUEST, other))) == 6
    finished = recorder.request().finished
    assert finished is not None
    assert finished.usage == Usage(prompt_tokens=8, completion_tokens=24)


async def test_if_one_is_refused_none_runs_and_nothing_is_held(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(capacity=Capacity(sequences=2, kv_tokens=1000))
    service = await serve(engine, prompts, recorder, max_waiting=2)
    before = service.limits(ANONYMOUS)
    async with await service.open(replace(REQUEST, n=1)), await service.open(replace(REQUEST, n=1)):
        with pytest.raises(Overloaded):
            await service.open(REQUEST)
    told = [recorder.request() for _ in range(3)]
    assert [end.error_code for end in told].count("overloaded") == 1
    assert recorder.requests.empty()
    assert service.limits(ANONYMOUS) == before
    assert len(await read(await service.open(REQUEST))) == 3


async def test_what_could_never_be_admitted_is_no_overload(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(capacity=Capacity(1, 1000)), prompts, recorder, max_waiting=1)
    with pytest.raises(InvalidRequest, match="at most 2 answers") as refusal:
        await service.open(REQUEST)
    assert refusal.value.param == "n"


async def test_an_idle_server_always_has_room_for_all_of_them(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(capacity=Capacity(16, 100)), prompts, recorder)
    open_end = replace(REQUEST, n=16, max_tokens=None)
    async with await service.open(open_end):
        assert service.limits(ANONYMOUS).remaining_tokens >= 0
    with pytest.raises(PromptTooLong):
        await service.open(replace(open_end, prompt=tuple(range(30))))


@pytest.mark.parametrize("raises", [True, False])
async def test_an_error_ends_all_and_is_the_requests_end(prompts: Prompts, recorder: Recorder, raises: bool) -> None:
    seeds = [choice.sampling.seed for choice in each_choice([REQUEST])]

    class Failing(ControlledEngine):
        async def _events(
            self, request: EngineRequest, constraint: Constraint | None
        ) -> AsyncGenerator[EngineEvent, None]:
            yield TokenEvent(100)
            if request.sampling.seed == seeds[2]:
                yield Finished(FinishReason.ERROR, Usage(3, 1), Timings(), OutOfMemory("no room"))
            await asyncio.Event().wait()

    async def read_it(choices: Choices) -> None:
        async with choices:
            *_, (index, last) = [each async for each in choices]
            assert index == 2
            assert isinstance(last, Finished)
            if raises and last.error is not None:
                raise last.error

    service = await serve(Failing(), prompts, recorder)
    before = service.limits(ANONYMOUS)
    with pytest.raises(OutOfMemory) if raises else nullcontext():
        await read_it(await service.open(REQUEST))
    told = recorder.request()
    assert recorder.requests.empty()
    assert (told.status, told.error_code) == (500, "out_of_memory")
    assert told.finished is not None
    assert isinstance(told.finished.error, OutOfMemory)
    assert service.limits(ANONYMOUS) == before


async def test_leaving_cancels_every_choice(prompts: Prompts, recorder: Recorder) -> None:
    gate = asyncio.Event()
    engine = ControlledEngine(gates={1: gate})
    service = await serve(engine, prompts, recorder)
    before = service.limits(ANONYMOUS)
    async with await service.open(REQUEST) as choices:
        seen: set[int] = set()
        async for index, _ in choices:
            seen.add(index)
            if len(seen) == 3:
                break
    assert len(engine.cancelled) == 3
    told = recorder.request()
    assert (told.status, told.error_code) == (499, "client_closed")
    assert service.limits(ANONYMOUS) == before


@pytest.mark.parametrize("turns", range(6))
async def test_a_reader_that_is_cancelled_twice_leaves_nothing_behind(
    prompts: Prompts, recorder: Recorder, turns: int
) -> None:
    """Ray Serve cancels again while the first cancellation is still being answered."""
    engine = ControlledEngine(gates={1: asyncio.Event()})
    service = await serve(engine, prompts, recorder)
    before = service.limits(ANONYMOUS)
    began = asyncio.Event()

    async def read_it() -> None:
        async with await service.open(REQUEST) as choices:
            async for _ in choices:
                began.set()

    reader = asyncio.create_task(read_it())
    await began.wait()
    reader.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert recorder.request().status == 499
    assert recorder.requests.empty()
    assert service.limits(ANONYMOUS) == before
    assert len(engine.cancelled) == 3


async def test_the_others_begin_when_the_first_ones_prompt_is_known(prompts: Prompts, recorder: Recorder) -> None:
    gate, asked = asyncio.Event(), asyncio.Event()
    seeds: list[int] = []

    class Watched(ControlledEngine):
        async def _events(
            self, request: EngineRequest, constraint: Constraint | None
        ) -> AsyncGenerator[EngineEvent, None]:
            seeds.append(request.sampling.seed)
            asked.set()
            async with aclosing(super()._events(request, constraint)) as events:
                async for event in events:
                    yield event

    service = await serve(Watched(gates={0: gate}), prompts, recorder)
    reading = asyncio.create_task(read(await service.open(REQUEST)))
    await asked.wait()
    for _ in range(20):  # long enough for a reader that does not wait
        await asyncio.sleep(0)
    assert seeds == [1]
    gate.set()
    assert len(await reading) == 3
    assert len(seeds) == 3


async def test_an_answer_that_breaks_its_promise_does_not_hang_its_reader(
    prompts: Prompts, recorder: Recorder
) -> None:
    async def broken() -> AsyncGenerator[ServiceEvent, None]:
        raise RuntimeError("a bug")
        yield

    service = await serve(ControlledEngine(), prompts, recorder)
    choices = await service.open(REQUEST)
    choices._answers[0]._events = broken()
    with pytest.raises(RuntimeError, match="a bug"):
        await asyncio.wait_for(read(choices), 30)
    assert recorder.request().error_code == "internal_error"


def test_usage_counts_each_prompt_with_what_its_first_choice_found_cached() -> None:
    usages = [Usage(10, 3, 0), Usage(10, 4, 9), Usage(20, 5, 8), Usage(20, 6, 19)]
    assert summed_usage(usages, 2) == Usage(30, 18, 8)


def test_timings_are_from_the_earliest_beginnings_to_the_latest_end() -> None:
    one, other = Timings(0.5, 0.25, 1.0, 2.0, 0.0, 3.0), Timings(0.5, 0.25, 3.0, 0.5, 0.0, 4.0)
    assert overall([one, other]) == Timings(0.5, 0.25, 1.0, 2.0, 0.0, 4.5)
