"""The service: refusals before an answer is opened, one Finished at its end, and one word to the observers."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from app.engine.base import Capacity, Phase
from app.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from app.errors import (
    DeadlineExceeded,
    EngineStalled,
    GenerationFailed,
    InvalidRequest,
    ModelLoading,
    NotReady,
    OutOfMemory,
    Overloaded,
    PromptTooLong,
    ServingError,
    ShuttingDown,
)
from app.messages import (
    EngineEvent,
    EngineRequest,
    Finished,
    FinishReason,
    GenerationRequest,
    JsonFormat,
    Message,
    Operation,
    SamplingParams,
    ServiceEvent,
    TextEvent,
    TokenEvent,
    ToolCall,
)
from app.observer import Observers
from app.serving.prompts import Prompts
from app.serving.service import GenerationService
from app.serving.tool_format import call_text
from app.settings import Settings
from tests.support.recorder import Recorder
from tests.support.tools import TOOLS, calls_of


@pytest.fixture(scope="module")
def prompts(embedded_model: Path) -> Prompts:
    return Prompts(embedded_model, SCRIPTED_MODEL)


def script(prompts: Prompts, text: str) -> list[int]:
    return prompts.tokenizer.encode(text, add_special_tokens=False).ids


def request(text: str = "hi", *, stop: tuple[str, ...] = (), max_tokens: int | None = 50) -> GenerationRequest:
    return GenerationRequest(
        id="r",
        operation=Operation.CHAT,
        sampling=SamplingParams(seed=1),
        messages=(Message("user", text),),
        stop=stop,
        max_tokens=max_tokens,
    )


async def serve(
    engine: ScriptedEngine, prompts: Prompts, recorder: Recorder, **settings: object
) -> GenerationService:
    await engine.start()
    return GenerationService(engine, prompts, Observers([recorder]), Settings(**settings))  # type: ignore[arg-type]


async def collect(service: GenerationService, generation: GenerationRequest) -> list[ServiceEvent]:
    async with await service.open(generation) as answer:
        return [event async for event in answer]


def text_of(events: list[ServiceEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


async def test_an_answer_is_text_then_one_finished(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ScriptedEngine(script(prompts, " return a + b")), prompts, recorder)
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
    engine = ScriptedEngine(script(prompts, "one two three four"))
    service = await serve(engine, prompts, recorder)
    events = await collect(service, request(stop=("two th",)))
    assert text_of(events) == "one "
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    assert events[-1].error is None
    assert events[-1].usage.completion_tokens == 3
    assert engine.cancelled == ["r-1"]
    assert recorder.request().response == "one "


async def test_what_ends_early_has_the_usage_and_the_wait_of_what_began(prompts: Prompts, recorder: Recorder) -> None:
    engine = ScriptedEngine(script(prompts, "one two three four"), cached=7)
    service = await serve(engine, prompts, recorder)
    await collect(service, request(stop=("two",)))
    told = recorder.request().finished
    assert told is not None
    assert told.usage.cached_tokens == 7
    assert told.timings.queued > 0


async def test_max_tokens_ends_with_length(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ScriptedEngine(script(prompts, "one two three")), prompts, recorder)
    events = await collect(service, request(max_tokens=2))
    assert text_of(events) == "one two"
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH


async def test_an_engines_error_is_the_end_and_keeps_the_text(prompts: Prompts, recorder: Recorder) -> None:
    engine = ScriptedEngine(script(prompts, "one two three"), fail=(2, OutOfMemory("no room")))
    service = await serve(engine, prompts, recorder)
    events = await collect(service, request())
    assert text_of(events) == "one two"
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].error, OutOfMemory)
    told = recorder.request()
    assert (told.status, told.error_code, told.response) == (503, "out_of_memory", "one two")


async def test_calls_come_as_events_end_the_answer_and_are_logged(prompts: Prompts, recorder: Recorder) -> None:
    call = ToolCall("", "add", '{"numbers": [1, 2]}')
    service = await serve(ScriptedEngine(script(prompts, f"I add.\n{call_text(call)}")), prompts, recorder)
    events = await collect(service, replace(request(stop=("numbers",), max_tokens=100), tools=TOOLS))
    assert text_of(events) == "I add.\n"
    (heard,) = calls_of(events)
    assert (heard.name, heard.arguments) == (call.name, call.arguments)
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.TOOL_CALLS
    told = recorder.request()
    assert told.finished is events[-1]
    assert 'add {"numbers": [1, 2]}' in told.response


async def test_words_of_an_answer_with_tools_end_as_ever(prompts: Prompts, recorder: Recorder) -> None:
    service = await serve(ScriptedEngine(script(prompts, "one two <tool three")), prompts, recorder)
    events = await collect(service, replace(request(), tools=TOOLS))
    assert text_of(events) == "one two <tool three"
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    events = await collect(service, replace(request(stop=("two",)), tools=TOOLS))
    assert text_of(events) == "one "
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP


async def test_a_call_that_is_cut_ends_with_length(prompts: Prompts, recorder: Recorder) -> None:
    call = ToolCall("", "add", '{"numbers": [1, 2]}')
    service = await serve(ScriptedEngine(script(prompts, call_text(call))), prompts, recorder)
    length = len(script(prompts, call_text(call).split("2]")[0]))
    events = await collect(service, replace(request(max_tokens=length), tools=TOOLS))
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH
    assert [heard.name for heard in calls_of(events)] == ["add"]


async def test_json_is_held_to_its_schema_and_a_bad_schema_is_refused(prompts: Prompts, recorder: Recorder) -> None:
    engine = ScriptedEngine(script(prompts, '{"a": 12} and more'))
    service = await serve(engine, prompts, recorder)
    schema = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    events = await collect(service, replace(request(), response_format=JsonFormat(schema)))
    assert text_of(events) == '{"a": 12}'
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP
    recorder.request()
    with pytest.raises(InvalidRequest, match="not"):
        await service.open(replace(request(), response_format=JsonFormat({"not": {}})))
    assert recorder.request().error_code == "invalid_request"
    await collect(service, request())  # the refused one holds no place


class BrokenEngine(ScriptedEngine):
    async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
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
async def test_the_deadline(
    prompts: Prompts, recorder: Recorder, hangs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class HangingEngine(ScriptedEngine):
        async def generate(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
            yield TokenEvent(100)
            await asyncio.Event().wait()

    monkeypatch.setattr("app.serving.answer._ENGINE_GRACE", 0.05)
    engine = HangingEngine() if hangs else ScriptedEngine(gates={1: asyncio.Event()})
    service = await serve(engine, prompts, recorder, request_timeout=0.05)
    events = await collect(service, request())
    assert isinstance(events[-1], Finished)
    assert isinstance(events[-1].error, DeadlineExceeded)
    assert events[-1].usage.completion_tokens == 1
    assert recorder.request().status == 504


async def test_a_reader_that_leaves_cancels_the_engine_and_frees_its_place(
    prompts: Prompts, recorder: Recorder
) -> None:
    gate = asyncio.Event()
    engine = ScriptedEngine(
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
    assert text_of(await collect(service, request())) == "one two three"


async def test_an_answer_that_nobody_reads_frees_its_place(prompts: Prompts, recorder: Recorder) -> None:
    engine = ScriptedEngine(capacity=Capacity(sequences=1, kv_tokens=4096))
    service = await serve(engine, prompts, recorder, max_waiting=0)
    async with await service.open(request()):
        pass
    assert recorder.request().error_code == "client_closed"
    await collect(service, request(max_tokens=3))


@pytest.mark.parametrize(
    ("phase", "alive", "error"),
    [
        (Phase.STARTING, True, ModelLoading),
        (Phase.LOADING, True, ModelLoading),
        (Phase.WARMING, True, ModelLoading),
        (Phase.READY, False, EngineStalled),
        (Phase.DRAINING, True, ShuttingDown),
        (Phase.STOPPED, True, ShuttingDown),
        (Phase.FAILED, True, NotReady),
    ],
)
async def test_an_engine_that_is_not_ready_refuses_with_a_time_to_come_again(
    prompts: Prompts, recorder: Recorder, phase: Phase, alive: bool, error: type[ServingError]
) -> None:
    engine = ScriptedEngine()
    service = await serve(engine, prompts, recorder)
    engine.become(phase, 0.5, alive=alive)
    with pytest.raises(error) as refusal:
        await service.open(request())
    assert refusal.type is error
    assert refusal.value.retry_after is not None
    assert 1 <= refusal.value.retry_after <= 60
    told = recorder.request()
    assert (told.status, told.error_code, told.finished) == (503, error.code, None)


async def test_too_long_is_refused_seen_and_holds_nothing(prompts: Prompts, recorder: Recorder) -> None:
    engine = ScriptedEngine(capacity=Capacity(sequences=1, kv_tokens=100))
    service = await serve(engine, prompts, recorder, max_waiting=0)
    for _ in range(3):
        with pytest.raises(PromptTooLong, match="room for 100 tokens"):  # less than the model's context
            await service.open(request("word " * 200))
        assert recorder.request().error_code == "prompt_too_long"
    events = await collect(service, request(max_tokens=None))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.total_tokens == 100
