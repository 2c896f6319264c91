"""An answer: one Finished at its end, however it ends, and one word to the observers."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.contract.engine import Capacity
from app.contract.errors import (
    DeadlineExceeded,
    GenerationFailed,
    OutOfMemory,
    Overloaded,
)
from app.contract.events import EngineEvent, Finished, FinishReason, TextEvent, TokenEvent
from app.contract.requests import EngineRequest, ToolCall
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.serving.prompt.prompts import Prompts
from app.serving.tools.format import call_text
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder
from tests.support.tools import TOOLS, calls_of
from tests.unit.serving.asking import collect, request, script, serve, text_of


async def test_an_answer_is_text_then_one_finished(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(script(prompts, " return a + b")), prompts, recorder)
    events = await collect(service, request())
    assert text_of(events) == " return a + b"
    assert [type(event) for event in events[-2:]] == [TextEvent, Finished]
    assert sum(isinstance(event, Finished) for event in events) == 1
    told = recorder.request()
    assert (told.status, told.error_code, told.response) == (200, None, " return a + b")
    assert told.finished is events[-1]
    assert told.finished.usage.completion_tokens == len(script(prompts, " return a + b")) + 1
    assert told.time_to_first_token is not None
    assert told.time_to_first_token <= told.duration
    assert recorder.requests.empty()


async def test_a_stop_string_ends_the_answer_and_the_engines_work(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(script(prompts, "one two three four"))
    service = await serve(engine, prompts, recorder)
    events = await collect(service, request(stop=("two th",)))
    assert text_of(events) == "one "
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    assert (events[-1].error, events[-1].stop) == (None, "two th")
    assert events[-1].usage.completion_tokens == 3
    assert engine.cancelled == ["r-1"]
    assert recorder.request().response == "one "


async def test_what_ends_early_has_the_usage_and_the_wait_of_what_began(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(script(prompts, "one two three four"), cached=7)
    service = await serve(engine, prompts, recorder)
    await collect(service, request(stop=("two",)))
    told = recorder.request().finished
    assert told is not None
    assert told.usage.cached_tokens == 7
    assert told.timings.queue > 0


async def test_max_tokens_ends_with_length(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(script(prompts, "one two three")), prompts, recorder)
    events = await collect(service, request(max_tokens=2))
    assert text_of(events) == "one two"
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH


async def test_an_engines_error_is_the_end_and_keeps_the_text(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(script(prompts, "one two three"), fail=(2, OutOfMemory("no room")))
    service = await serve(engine, prompts, recorder)
    events = await collect(service, request())
    assert text_of(events) == "one two"
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].error, OutOfMemory)
    told = recorder.request()
    assert (told.status, told.error_code, told.response) == (500, "out_of_memory", "one two")


async def test_calls_come_as_events_end_the_answer_and_are_logged(
    prompts: Prompts, recorder: Recorder, grammars: Grammars
) -> None:
    call = ToolCall("", "add", '{"numbers": [1, 2]}')
    service = await serve(
        ControlledEngine(script(prompts, f"I add.\n{call_text(call)}"), grammars=grammars), prompts, recorder
    )
    events = await collect(service, replace(request(stop=("numbers",), max_tokens=100), tools=TOOLS))
    assert text_of(events) == "I add.\n"
    (heard,) = calls_of(events)
    assert (heard.name, heard.arguments) == (call.name, call.arguments)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.TOOL_CALLS
    told = recorder.request()
    assert told.finished is events[-1]
    assert 'add {"numbers": [1, 2]}' in told.response


async def test_words_of_an_answer_with_tools_end_as_ever(
    prompts: Prompts, recorder: Recorder, grammars: Grammars
) -> None:
    service = await serve(
        ControlledEngine(script(prompts, "one two <tool three"), grammars=grammars), prompts, recorder
    )
    events = await collect(service, replace(request(), tools=TOOLS))
    assert text_of(events) == "one two <tool three"
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].stop) == (FinishReason.STOP, None)
    events = await collect(service, replace(request(stop=("two",)), tools=TOOLS))
    assert text_of(events) == "one "
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].stop) == (FinishReason.STOP, "two")


@pytest.mark.parametrize("max_tokens", [3, 50], ids=["cut", "ended"])
async def test_a_stop_string_in_words_that_waited_to_become_a_call(
    prompts: Prompts, recorder: Recorder, grammars: Grammars, max_tokens: int
) -> None:
    text = "one two <"
    assert len(script(prompts, text)) == 3
    engine = ControlledEngine(script(prompts, text), grammars=grammars)
    service = await serve(engine, prompts, recorder)
    events = await collect(service, replace(request(stop=(" <",), max_tokens=max_tokens), tools=TOOLS))
    assert text_of(events) == "one two"
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].stop) == (FinishReason.STOP, " <")


async def test_a_call_that_is_cut_ends_with_length(prompts: Prompts, recorder: Recorder, grammars: Grammars) -> None:
    call = ToolCall("", "add", '{"numbers": [1, 2]}')
    engine = ControlledEngine(script(prompts, call_text(call)), grammars=grammars)
    service = await serve(engine, prompts, recorder)
    length = len(script(prompts, call_text(call).split("2]")[0]))
    events = await collect(service, replace(request(max_tokens=length), tools=TOOLS))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH
    assert [heard.name for heard in calls_of(events)] == ["add"]


async def test_an_answer_ends_before_a_call_that_repeats_one_and_so_does_the_engines_work(
    prompts: Prompts, recorder: Recorder, grammars: Grammars
) -> None:
    one, two = (ToolCall("", "add", f'{{"numbers": [{number}]}}') for number in (1, 2))
    text = "\n".join(map(call_text, [one, two, one, two]))
    engine = ControlledEngine(script(prompts, text), grammars=grammars)
    service = await serve(engine, prompts, recorder)
    events = await collect(service, replace(request(max_tokens=500), tools=TOOLS))
    assert [heard.arguments for heard in calls_of(events)] == [one.arguments, two.arguments]
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].error) == (FinishReason.TOOL_CALLS, None)
    assert engine.cancelled == ["r-1"]
    repeated = len(script(prompts, "\n".join(map(call_text, [one, two, one]))))
    assert events[-1].usage.completion_tokens <= repeated


async def test_whole_calls_are_no_cut_answer_wherever_max_tokens_ends_it(
    prompts: Prompts, recorder: Recorder, grammars: Grammars
) -> None:
    one, two = (ToolCall("", "add", f'{{"numbers": [{number}]}}') for number in (1, 2))
    tokens = script(prompts, f"{call_text(one)}\n{call_text(two)}")
    service = await serve(ControlledEngine(tokens, grammars=grammars), prompts, recorder)
    reasons = set()
    for max_tokens in range(1, len(tokens)):
        events = await collect(service, replace(request(max_tokens=max_tokens), tools=TOOLS))
        whole = [call.arguments for call in calls_of(events)] in ([one.arguments], [one.arguments, two.arguments])
        assert isinstance(events[-1], Finished)
        assert events[-1].reason is (FinishReason.TOOL_CALLS if whole else FinishReason.LENGTH)
        reasons.add((events[-1].reason, len(calls_of(events))))
    assert len(reasons) == 5  # without a call, within each, and after each


class BrokenEngine(ControlledEngine):
    async def _events(
        self, request: EngineRequest, constraint: Constraint | None
    ) -> AsyncGenerator[EngineEvent, None]:
        yield TokenEvent(100)
        raise ValueError("secret prompt text")


async def test_an_engine_that_raises_still_ends_with_one_error(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(BrokenEngine(), prompts, recorder)
    events = await collect(service, request())
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].error, GenerationFailed)
    assert "secret" not in events[-1].error.message
    assert recorder.request().error_code == "generation_failed"


@pytest.mark.parametrize("hangs", [False, True], ids=["engine keeps it", "engine hangs"])
async def test_the_deadline_ends_an_answer_which_keeps_its_text(
    prompts: Prompts, recorder: Recorder, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangingEngine(ControlledEngine):
        async def _events(
            self, request: EngineRequest, constraint: Constraint | None
        ) -> AsyncGenerator[EngineEvent, None]:
            yield TokenEvent(100)
            await asyncio.Event().wait()

    monkeypatch.setattr("app.serving.answer._ENGINE_GRACE", 0.05)
    engine = HangingEngine() if hangs else ControlledEngine(gates={1: asyncio.Event()})
    service = await serve(engine, prompts, recorder, request_timeout=0.05)
    events = await collect(service, request())
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].error, DeadlineExceeded)
    assert (events[-1].reason, events[-1].failure) == (FinishReason.LENGTH, None)
    assert events[-1].usage.completion_tokens == 1
    assert text_of(events)
    told = recorder.request()
    assert (told.status, told.error_code) == (200, "deadline_exceeded")


async def test_a_deadline_before_the_first_token_is_an_error(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ControlledEngine(gates={0: asyncio.Event()}), prompts, recorder, request_timeout=0.05)
    events = await collect(service, request())
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].failure, DeadlineExceeded)
    assert recorder.request().status == 504


async def test_a_reader_that_leaves_cancels_the_engine_and_frees_its_place(
    prompts: Prompts, recorder: Recorder
) -> None:
    gate = asyncio.Event()
    engine = ControlledEngine(
        script(prompts, "one two three"), gates={1: gate}, capacity=Capacity(sequences=1, kv_tokens=4096)
    )
    service = await serve(engine, prompts, recorder, max_waiting=0)
    began = asyncio.Event()

    async def read() -> None:
        async with await service.open(request()) as answer:
            async for _ in answer:
                began.set()

    reader = asyncio.create_task(read())
    await began.wait()
    with pytest.raises(Overloaded):
        await service.open(request())
    assert recorder.request().error_code == "overloaded"
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    told = recorder.request()
    assert (told.status, told.error_code, told.response) == (499, "client_closed", "one")
    assert told.finished is not None
    assert told.finished.reason is FinishReason.CANCELLED
    assert engine.cancelled == ["r-1"]
    gate.set()
    lengths = service._admission.lengths
    expected = lengths.remaining(0, 900)
    assert text_of(await collect(service, request())) == "one two three"
    assert lengths.remaining(0, 900) < expected, "answers that end say how long others will be, those left do not"


async def test_a_reader_that_leaves_the_queue_was_in_the_queue(prompts: Prompts, recorder: Recorder) -> None:
    """It was told as having waited for 0 seconds and prefilled for 7, so that an overload could not be seen."""

    computes, queued = asyncio.Event(), asyncio.Event()

    class Watched(ControlledEngine):
        async def _pause(self, until: asyncio.Event | asyncio.Semaphore | None, request: EngineRequest) -> bool:
            if isinstance(until, asyncio.Event):  # the gate before its first token
                computes.set()
            elif computes.is_set():  # the place that the first one has
                queued.set()
            return await super()._pause(until, request)

    engine = Watched(gates={0: asyncio.Event()}, capacity=Capacity(sequences=1, kv_tokens=4096))
    service = await serve(engine, prompts, recorder)

    async def read() -> None:
        async with await service.open(request()) as answer:
            async for _ in answer:
                pass

    first = asyncio.create_task(read())
    await computes.wait()
    second = asyncio.create_task(read())  # not at once: prompts are rendered on threads, and either may be the first
    await queued.wait()
    for reader in (second, first):
        reader.cancel()
    await asyncio.gather(first, second, return_exceptions=True)
    waited, computed = recorder.request(), recorder.request()
    for told in (waited, computed):
        assert told.finished is not None
        assert told.finished.timings.total == told.duration
    assert waited.finished is not None
    assert computed.finished is not None
    assert (waited.finished.timings.prefill, waited.finished.timings.queue > 0) == (0.0, True)
    assert (computed.finished.timings.prefill > 0, computed.finished.timings.decode) == (True, 0.0)


async def test_an_answer_that_nobody_reads_frees_its_place(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=4096))
    service = await serve(engine, prompts, recorder, max_waiting=0)
    async with await service.open(request()):
        pass
    assert recorder.request().error_code == "client_closed"
    await collect(service, request(max_tokens=3))
