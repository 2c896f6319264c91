"""What every engine promises (`app/contract/engine.py`)."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import cast

import pytest

from app.contract.engine import Engine, Phase
from app.contract.errors import DeadlineExceeded, GenerationFailed, NotReady, ShuttingDown
from app.contract.messages import (
    Constraint,
    EngineEvent,
    EngineRequest,
    Finished,
    FinishReason,
    SamplingParams,
    Start,
    TokenEvent,
)
from tests.support.constraints import Broken, Table

PROMPT = tuple(range(100, 120))


def ask(**changes: object) -> EngineRequest:
    request = EngineRequest(id="r", tokens=PROMPT, max_tokens=8, sampling=SamplingParams(seed=7))
    return replace(request, **changes)  # type: ignore[arg-type]


async def play(engine: Engine, request: EngineRequest) -> tuple[list[int], Finished]:
    """Tokens and the end. Fails unless there is exactly one Finished, and it comes last."""
    events: list[EngineEvent] = [event async for event in engine.generate(request)]
    *tokens, end = events
    assert isinstance(end, Finished)
    assert all(isinstance(event, TokenEvent) for event in tokens)
    return [event.token for event in tokens if isinstance(event, TokenEvent)], end


async def begin(engine: Engine, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    """The request's events after its first token. The protocol promises that they can be closed."""
    events = cast("AsyncGenerator[EngineEvent, None]", engine.generate(request))
    assert isinstance(await anext(events), TokenEvent)
    return events


async def test_max_tokens_are_never_exceeded_and_counted_exactly(engine: Engine) -> None:
    for count in (1, 8):
        tokens, end = await play(engine, ask(max_tokens=count))
        assert len(tokens) == count
        assert end.reason is FinishReason.LENGTH
        assert end.error is None
        assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(PROMPT), count)
        assert all(0 <= token < engine.model.vocabulary for token in tokens)
        assert min(end.timings.queued, end.timings.prefill, end.timings.decode) >= 0


async def test_the_first_token_tells_what_the_end_will(engine: Engine) -> None:
    await play(engine, ask())  # so that the next one finds its prompt known, if the engine keeps prompts
    *tokens, end = [event async for event in engine.generate(ask(id="again"))]
    assert isinstance(end, Finished)
    first, *others = [event.start for event in tokens if isinstance(event, TokenEvent)]
    assert first == Start(end.timings.queued, end.usage.cached_tokens)
    assert others == [None] * 7


async def test_log_probabilities_come_when_they_are_wanted(engine: Engine) -> None:
    for wanted in (None, 0, 2):
        events = engine.generate(ask(sampling=SamplingParams(seed=7, top_logprobs=wanted)))
        tokens = [event async for event in events if isinstance(event, TokenEvent)]
        assert [len(token.top_logprobs) for token in tokens] == [wanted or 0] * 8
        assert [token.logprob is None for token in tokens] == [wanted is None] * 8
        for token in tokens:
            values = [value for _, value in token.top_logprobs]
            assert values == sorted(values, reverse=True)


async def test_a_stop_token_ends_the_answer_and_is_its_last(engine: Engine) -> None:
    tokens, _ = await play(engine, ask())
    stop = tokens[4]
    stopped, end = await play(engine, ask(stop_tokens=frozenset({stop})))
    assert stopped == tokens[: tokens.index(stop) + 1]
    assert end.reason is FinishReason.STOP
    assert end.usage.completion_tokens == len(stopped)


async def test_a_seed_repeats_its_answer_and_another_gives_another(engine: Engine) -> None:
    first, _ = await play(engine, ask())
    again, _ = await play(engine, ask())
    other, _ = await play(engine, ask(sampling=SamplingParams(seed=8)))
    assert first == again
    assert first != other


@pytest.mark.parametrize("temperature", [0.0, 2.0])
async def test_a_constraint_is_kept_and_hears_every_token(engine: Engine, temperature: float) -> None:
    table = Table(lambda n: {200 + n, 300 + n} if n < 5 else {2})
    sampling = SamplingParams(seed=7, temperature=temperature)
    free = ask(id="free", sampling=sampling)
    alone, _ = await play(engine, free)
    (tokens, end), (beside, _) = await asyncio.gather(
        play(engine, ask(sampling=sampling, max_tokens=20, stop_tokens=frozenset({2}), constraint=table)),
        play(engine, free),
    )
    assert [token % 100 for token in tokens[:5]] == [0, 1, 2, 3, 4]
    assert tokens[5:] == [2]
    assert table.taken == tokens
    assert end.reason is FinishReason.STOP
    assert beside == alone


@pytest.mark.parametrize("bad", [Table(lambda _: set()), Broken("allowed"), Broken("accept")])
async def test_a_bad_constraint_ends_its_own_request(engine: Engine, bad: Constraint) -> None:
    (_, failed), (tokens, end) = await asyncio.gather(
        play(engine, ask(id="bad", constraint=bad)), play(engine, ask(id="good"))
    )
    assert failed.reason is FinishReason.ERROR
    assert isinstance(failed.error, GenerationFailed)
    assert len(tokens) == 8
    assert end.error is None


async def test_several_at_once_each_get_their_own(engine: Engine) -> None:
    count = engine.capacity.sequences + 2  # some have to wait
    requests = [ask(id=str(n), max_tokens=3 + n % 4) for n in range(count)]
    answers = await asyncio.gather(*(play(engine, request) for request in requests))
    assert [len(tokens) for tokens, _ in answers] == [request.max_tokens for request in requests]
    assert {end.reason for _, end in answers} == {FinishReason.LENGTH}


async def test_closing_the_iterator_frees_the_slot(engine: Engine) -> None:
    for _ in range(2):
        running = [await begin(engine, ask(id=str(n), max_tokens=500)) for n in range(engine.capacity.sequences)]
        for events in running:
            await events.aclose()
    _, end = await asyncio.wait_for(play(engine, ask()), 60)
    assert end.reason is FinishReason.LENGTH


async def test_cancelling_the_task_frees_the_slot(engine: Engine) -> None:
    began = asyncio.Event()

    async def read() -> None:
        async for _ in engine.generate(ask(max_tokens=500)):
            began.set()
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(engine.capacity.sequences)]
    await began.wait()
    for reader in readers:
        reader.cancel()
    await asyncio.gather(*readers, return_exceptions=True)
    _, end = await asyncio.wait_for(play(engine, ask()), 60)
    assert end.reason is FinishReason.LENGTH


async def test_cancelling_while_it_waits_for_a_slot(engine: Engine) -> None:
    running = [await begin(engine, ask(id=str(n), max_tokens=500)) for n in range(engine.capacity.sequences)]
    waiting = asyncio.create_task(play(engine, ask(id="waiting")))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    for events in running:
        await events.aclose()
    _, end = await asyncio.wait_for(play(engine, ask()), 60)
    assert end.reason is FinishReason.LENGTH


async def test_the_deadline_ends_with_an_error(engine: Engine) -> None:
    _, end = await play(engine, ask(deadline_at=time.monotonic() - 1))
    assert end.reason is FinishReason.ERROR
    assert isinstance(end.error, DeadlineExceeded)
    later, end = await play(engine, ask(deadline_at=time.monotonic() + 600))
    assert len(later) == 8
    assert end.error is None


async def test_before_it_is_ready_it_refuses(unstarted: Engine) -> None:
    with pytest.raises(NotReady):
        await anext(unstarted.generate(ask()))
    assert unstarted.status().phase is Phase.STARTING
    assert unstarted.model.vocabulary > 0  # known before the weights are


async def test_stopping_ends_what_runs_with_shutting_down(engine: Engine) -> None:
    running = [engine.generate(ask(id=str(n), max_tokens=500)) for n in range(engine.capacity.sequences)]
    for events in running:
        assert isinstance(await anext(events), TokenEvent)

    async def rest(number: int) -> Finished:
        *_, end = [event async for event in running[number]]
        assert isinstance(end, Finished)
        return end

    readers = [asyncio.create_task(rest(number)) for number in range(len(running))]
    await engine.stop()
    for end in await asyncio.gather(*readers):
        assert end.reason is FinishReason.ERROR
        assert isinstance(end.error, ShuttingDown)
    assert engine.status().phase is Phase.STOPPED
    with pytest.raises(NotReady):
        await anext(engine.generate(ask()))


async def test_draining_finishes_what_runs_and_takes_nothing_new(engine: Engine) -> None:
    events = engine.generate(ask(max_tokens=20))
    await anext(events)
    drain = asyncio.create_task(engine.drain())
    while engine.status().phase is not Phase.DRAINING:  # noqa: ASYNC110  # the protocol has no event for it
        await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await anext(engine.generate(ask()))
    *_, end = [event async for event in events]
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == 20
    await asyncio.wait_for(drain, 60)
