"""What every engine promises (`app/contract/engine.py`)."""

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.contract.engine import Engine, Phase
from app.contract.errors import DeadlineExceeded, GrammarExhausted, Interrupted, InvalidRequest, NotReady
from app.contract.events import EngineEvent, Finished, FinishReason, PromptEvent, TokenEvent
from app.contract.requests import EngineRequest, JsonGrammar, LarkGrammar, SamplingParams

PROMPT = tuple(range(100, 120))


def ask(**changes: object) -> EngineRequest:
    request = EngineRequest(id="r", tokens=PROMPT, max_tokens=8, sampling=SamplingParams(seed=7))
    return replace(request, **changes)  # type: ignore[arg-type]  # changes of several types


async def play(engine: Engine, request: EngineRequest) -> tuple[list[int], Finished]:
    """Tokens and the end. Fails unless there is exactly one Finished, and it comes last."""
    events: list[EngineEvent] = [event async for event in await engine.open(request)]
    *tokens, end = events
    assert isinstance(end, Finished)
    assert all(isinstance(event, TokenEvent) for event in tokens)
    return [event.token for event in tokens if isinstance(event, TokenEvent)], end


async def begin(engine: Engine, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
    """The request's events after its first token."""
    events = await engine.open(request)
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


async def test_the_progress_is_known_before_the_events_that_follow_from_it(engine: Engine) -> None:
    await play(engine, ask())  # so that the next one finds its prompt known, if the engine keeps prompts
    request = ask(id="again")
    assert request.progress.started_at is None
    seen: list[int] = []
    async for event in await engine.open(request):
        progress = request.progress
        assert progress.started_at is not None
        assert progress.arrived_at <= progress.started_at <= time.monotonic()
        if isinstance(event, Finished):
            assert event.usage.cached_tokens == progress.cached_tokens
            assert progress.steps == 8
            assert progress.first_step is not None
            assert progress.last_step is not None
            assert progress.last_step - progress.first_step >= 7
        else:
            seen.append(progress.cached_tokens)
        assert progress.mean_batch == 1
    assert seen == [request.progress.cached_tokens] * 8


async def test_log_probabilities_come_when_they_are_wanted(engine: Engine) -> None:
    for wanted in (None, 0, 2):
        events = await engine.open(ask(sampling=SamplingParams(seed=7, top_logprobs=wanted)))
        tokens = [event async for event in events if isinstance(event, TokenEvent)]
        assert [len(token.top_logprobs) for token in tokens] == [wanted or 0] * 8
        assert [token.logprob is None for token in tokens] == [wanted is None] * 8
        for token in tokens:
            values = [value for _, value in token.top_logprobs]
            assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("max_tokens", [0, 3])
async def test_a_prompts_log_probabilities_come_first(engine: Engine, max_tokens: int) -> None:
    await play(engine, ask())  # so that the prompt is known, if the engine keeps prompts
    events = [event async for event in await engine.open(ask(max_tokens=max_tokens, prompt_logprobs=2))]
    *before, end = events
    assert isinstance(end, Finished)
    assert (end.reason, end.error) == (FinishReason.LENGTH, None)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (len(PROMPT), max_tokens)
    assert [type(event) for event in before][-max_tokens:] == [TokenEvent] * max_tokens or max_tokens == 0
    first, *others = [token for event in before if isinstance(event, PromptEvent) for token in event.tokens]
    assert (first.token, *(token.token for token in others)) == PROMPT
    assert (first.logprob, first.top_logprobs) == (None, ())
    for token in others:
        assert token.logprob is not None
        assert token.logprob <= 0
        assert [value for _, value in token.top_logprobs] == sorted((v for _, v in token.top_logprobs), reverse=True)
        assert len(token.top_logprobs) == 2


async def test_a_prompt_alone_is_computed_too(engine: Engine) -> None:
    tokens, end = await play(engine, ask(max_tokens=0))
    assert (tokens, end.reason, end.usage.completion_tokens) == ([], FinishReason.LENGTH, 0)


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
async def test_a_grammar_is_kept_and_disturbs_no_other_request(engine: Engine, temperature: float) -> None:
    ten = " ".join(f"<[{200 + n},{300 + n}]>" for n in range(10))  # token ids: a choice of two, ten times
    grammar = LarkGrammar(rules=f"start: {ten}", schemas={}, param="tools")
    sampling = SamplingParams(seed=7, temperature=temperature)
    free = ask(id="free", sampling=sampling)
    alone, _ = await play(engine, free)
    asked = ask(sampling=sampling, max_tokens=20, stop_tokens=frozenset({2}), grammar=grammar)
    (tokens, end), (again, _), (beside, _) = await asyncio.gather(
        play(engine, asked), play(engine, replace(asked, id="again")), play(engine, free)
    )
    assert [token % 100 for token in tokens[:-1]] == list(range(10))
    assert {token // 100 for token in tokens[:-1]} <= {2, 3}
    assert tokens[-1] == 2
    assert end.reason is FinishReason.STOP
    assert again == tokens
    assert beside == alone


async def test_json_fits_its_schema(engine: Engine) -> None:
    grammar = JsonGrammar(schema='{"enum": ["left", "right"]}', param="response_format")
    tokens, end = await play(engine, ask(max_tokens=20, stop_tokens=frozenset({2}), grammar=grammar))
    assert end.reason is FinishReason.STOP
    assert len(tokens) - 1 in (len('"left"'), len('"right"'))  # the tests' tokenizer has a token for each byte


async def test_a_grammar_that_cannot_be_enforced_is_refused_before_anything_is_computed(engine: Engine) -> None:
    refused = JsonGrammar(schema='{"properties": {"sesame": {"type": 7}}}', param="response_format")
    for grammar in (refused, LarkGrammar(rules="start: (", schemas={}, param="response_format")):
        with pytest.raises(InvalidRequest) as refusal:
            await engine.open(ask(grammar=grammar))
        assert refusal.value.param == "response_format"
        assert "sesame" not in refusal.value.message


async def test_a_grammar_that_grows_too_complex_ends_its_own_request(engine: Engine) -> None:
    endless = JsonGrammar(schema='{"type": "string", "pattern": "^(a?){500}a{500}$"}', param="response_format")
    (_, failed), (tokens, end) = await asyncio.gather(
        play(engine, ask(id="bad", grammar=endless)), play(engine, ask(id="good"))
    )
    assert failed.reason is FinishReason.LENGTH  # its tokens so far are kept
    assert isinstance(failed.error, GrammarExhausted)
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
        async for _ in await engine.open(ask(max_tokens=500)):
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
        await unstarted.open(ask())
    assert unstarted.status().phase is Phase.STARTING
    assert unstarted.model.vocabulary > 0  # known before the weights are


async def test_stopping_ends_what_runs_with_shutting_down(engine: Engine) -> None:
    running = [await engine.open(ask(id=str(n), max_tokens=500)) for n in range(engine.capacity.sequences)]
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
        assert isinstance(end.error, Interrupted)
    assert engine.status().phase is Phase.STOPPED
    with pytest.raises(NotReady):
        await engine.open(ask())


async def test_what_was_taken_before_a_drain_begins_during_it(engine: Engine) -> None:
    """Its client may have been told already that an answer comes."""
    events = await engine.open(ask(max_tokens=5))
    await engine.drain()
    assert engine.status().phase is Phase.DRAINING
    assert isinstance(await anext(events), TokenEvent)
    drain = asyncio.create_task(engine.drain())
    *_, end = [event async for event in events]
    assert isinstance(end, Finished)
    assert (end.error, end.usage.completion_tokens) == (None, 5)
    await asyncio.wait_for(drain, 60)


async def test_draining_finishes_what_runs_and_takes_nothing_new(engine: Engine) -> None:
    events = await engine.open(ask(max_tokens=20))
    await anext(events)
    drain = asyncio.create_task(engine.drain())
    while engine.status().phase is not Phase.DRAINING:  # noqa: ASYNC110  # the protocol has no event for it
        await asyncio.sleep(0)
    with pytest.raises(NotReady):
        await engine.open(ask())
    *_, end = [event async for event in events]
    assert isinstance(end, Finished)
    assert end.usage.completion_tokens == 20
    await asyncio.wait_for(drain, 60)
