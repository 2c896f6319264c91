"""The service: what is refused before an answer is opened, and what an answer is held to."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.contract.engine import Capacity, Phase
from app.contract.errors import (
    EngineStalled,
    InvalidRequest,
    ModelLoading,
    NotReady,
    Overloaded,
    PromptTooLong,
    ServingError,
    ShuttingDown,
)
from app.contract.events import EngineEvent, Finished, FinishReason, TokenEvent, Usage
from app.contract.requests import EngineRequest, GenerationRequest, JsonFormat
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.serving.prompt.prompts import PreparedPrompt, Prompts
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder
from tests.unit.serving.asking import collect, request, script, serve, text_of


async def test_json_is_held_to_its_schema_and_a_bad_schema_is_refused(
    prompts: Prompts, recorder: Recorder, grammars: Grammars
) -> None:
    engine = ControlledEngine(script(prompts, '{"a": 12} and more'), grammars=grammars)
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


async def test_a_request_that_would_wait_too_long_is_refused_by_measured_times(
    prompts: Prompts, recorder: Recorder
) -> None:
    class Slow(ControlledEngine):
        async def _events(
            self, request: EngineRequest, constraint: Constraint | None
        ) -> AsyncGenerator[EngineEvent, None]:
            for _ in range(2):
                yield TokenEvent(100)
            progress = request.progress
            for moment in ("arrived_at", "prepared_at", "opened_at", "first_token_at"):
                setattr(progress, moment, getattr(progress, moment) - 1000)
            yield Finished(FinishReason.LENGTH, Usage(len(request.tokens), 2))

    service = await serve(Slow(capacity=Capacity(sequences=1, kv_tokens=4096)), prompts, recorder)
    await collect(service, request())
    async with await service.open(request()):
        with pytest.raises(Overloaded, match=r"begin in about 2[0-9]{3} seconds, and may wait for 60"):
            await service.open(request())
    await collect(service, request())


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
    engine = ControlledEngine()
    service = await serve(engine, prompts, recorder)
    engine.become(phase, 0.5, alive=alive)
    with pytest.raises(error) as refusal:
        await service.open(request())
    assert refusal.type is error
    assert refusal.value.retry_after is not None
    assert 1 <= refusal.value.retry_after <= 60
    told = recorder.request()
    assert (told.status, told.error_code, told.finished) == (503, error.code, None)


async def test_an_engine_that_stops_while_a_prompt_is_tokenized_refuses_it(
    prompts: Prompts, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = ControlledEngine()
    service = await serve(engine, prompts, recorder)
    prepare = prompts.prepare

    def prepare_slowly(generation: GenerationRequest, limit: int) -> PreparedPrompt:
        prompt = prepare(generation, limit)
        engine.become(Phase.DRAINING)
        return prompt

    monkeypatch.setattr(prompts, "prepare", prepare_slowly)
    with pytest.raises(ShuttingDown):
        await service.open(request())
    assert recorder.request().error_code == "shutting_down"


async def test_a_client_that_leaves_holds_its_place_until_its_prompt_is_read_and_delays_no_other(
    prompts: Prompts, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, gate = asyncio.Event(), threading.Event()
    loop, prepare = asyncio.get_running_loop(), prompts.prepare

    def prepare_slowly(generation: GenerationRequest, limit: int) -> PreparedPrompt:
        if generation.tenant == "slow":
            loop.call_soon_threadsafe(began.set)
            assert gate.wait(30)
        return prepare(generation, limit)

    monkeypatch.setattr(prompts, "prepare", prepare_slowly)
    service = await serve(ControlledEngine(capacity=Capacity(sequences=4, kv_tokens=4096)), prompts, recorder)
    before = service.limits("slow")
    slow = replace(request(), tenant="slow")
    leaving = [asyncio.create_task(service.open(slow)) for _ in range(3)]
    await began.wait()
    for task in leaving:
        task.cancel()
    await asyncio.wait_for(collect(service, replace(request(), tenant="other")), 30)
    working = [task for task in leaving if not task.done()]
    assert 1 <= len(working) <= 2  # the tenant's share of threads; the others never began
    assert before.remaining_requests - service.limits("slow").remaining_requests == len(working)
    gate.set()
    assert {type(end) for end in await asyncio.gather(*leaving, return_exceptions=True)} == {asyncio.CancelledError}
    assert service.limits("slow").remaining_requests == before.remaining_requests
    assert {recorder.request().status for _ in range(4)} == {200, 499}


async def test_too_long_is_refused_seen_and_holds_nothing(prompts: Prompts, recorder: Recorder) -> None:
    engine = ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=100))
    service = await serve(engine, prompts, recorder, max_waiting=0)
    for _ in range(3):
        with pytest.raises(PromptTooLong, match="length is 100 tokens; "):  # less than the model's context
            await service.open(request("word " * 200))
        assert recorder.request().error_code == "prompt_too_long"
    events = await collect(service, request(max_tokens=None))
    assert isinstance(events[-1], Finished)
    assert events[-1].usage.total_tokens == 100
