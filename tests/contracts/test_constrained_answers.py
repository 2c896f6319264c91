"""The small model itself, cold and hot: its JSON validates and its calls fit, whatever it says."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from jsonschema import validate

from app.contract.engine import Phase
from app.contract.events import Finished, FinishReason, ServiceEvent, TextEvent
from app.contract.options import DType
from app.contract.requests import GenerationRequest, JsonFormat, Message, Operation, SamplingParams, ToolChoice
from app.contract.telemetry import Observers
from app.local_engine import local_engine
from app.models.selection import Selection
from app.serving.prompt.prompts import Prompts
from app.serving.service import GenerationService
from app.settings import Settings
from tests.support.schemas import SCHEMAS
from tests.support.tools import TOOLS, assert_valid, calls_of

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]

CHOSEN = ["an extracted person", "pydantic with references", "a discriminated union", "format date-time", "a map"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(embedded_model: Path) -> AsyncIterator[GenerationService]:
    settings = Settings(dtype=DType.FLOAT32, max_sequences=8, kv_tokens=8192)  # where exactness is promised
    engine = local_engine(settings, Selection("smollm2", embedded_model, (), "a test"), Observers())
    await engine.start()
    async with asyncio.timeout(120):
        while engine.status().phase is not Phase.READY:
            assert engine.status().phase is not Phase.FAILED, engine.status().detail
            await asyncio.sleep(0.05)  # the protocol tells its phase to those who ask
    yield GenerationService(engine, Prompts(embedded_model, engine.model), Observers(), settings)
    await engine.stop()


def request(question: str, temperature: float, seed: int = 1, **changes: Any) -> GenerationRequest:
    return GenerationRequest(
        id=f"r{seed}",
        operation=Operation.CHAT,
        sampling=SamplingParams(seed=seed, temperature=temperature),
        messages=(Message("user", question),),
        **({"max_tokens": 64} | changes),
    )


async def collect(
    service: GenerationService, generation: GenerationRequest
) -> tuple[list[ServiceEvent], FinishReason]:
    async with await service.open(generation) as answer:
        events = [event async for _, event in answer]
    assert isinstance(events[-1], Finished)
    return events, events[-1].reason


def text_of(events: list[ServiceEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


@pytest.mark.parametrize("temperature", [0.0, 2.0])
async def test_json_validates(service: GenerationService, temperature: float) -> None:
    schemas: list[dict[str, Any]] = [*(SCHEMAS[name] for name in CHOSEN), {"type": "object"}]
    formats = [*(JsonFormat(SCHEMAS[name]) for name in CHOSEN), JsonFormat()]
    answers = await asyncio.gather(
        *(
            collect(service, request("Tell me about Ada Lovelace in JSON.", temperature, seed, response_format=form))
            for seed, form in enumerate(formats)
        )
    )
    finished = 0
    for schema, (events, reason) in zip(schemas, answers, strict=True):
        assert reason in (FinishReason.STOP, FinishReason.LENGTH)
        if reason is FinishReason.STOP:
            finished += 1
            validate(json.loads(text_of(events)), schema)
    assert finished >= 2


@pytest.mark.parametrize("temperature", [0.0, 2.0])
async def test_calls_fit_their_functions_and_free_answers_beside_them_are_unchanged(
    service: GenerationService, temperature: float
) -> None:
    # Cold in any case: a batch of another size rounds differently, which a hot draw from equals may show.
    free = request("Write a function that adds.", 0.0, 9, max_tokens=30)
    alone, _ = await collect(service, free)
    choices = [ToolChoice(), ToolChoice("required"), ToolChoice("required", "add"), ToolChoice("required")]
    calling = [
        request("What is the weather in Paris?", temperature, seed, tools=TOOLS, tool_choice=choice,
                parallel_tool_calls=seed != 3, max_tokens=80)
        for seed, choice in enumerate(choices)
    ]  # fmt: skip  # the request in two lines, not in ten
    (beside, _), auto, required, named, single = await asyncio.gather(
        collect(service, free), *(collect(service, one) for one in calling)
    )
    assert text_of(beside) == text_of(alone)
    for events, reason in (auto, required, named, single):
        calls = calls_of(events)
        if reason is not FinishReason.LENGTH:
            assert reason is (FinishReason.TOOL_CALLS if calls else FinishReason.STOP)
            assert_valid(calls)
        assert_valid(calls[:-1])  # the last one may be cut
    for events, _ in (required, named, single):
        assert not text_of(events)
        assert calls_of(events)
    assert {call.name for call in calls_of(named[0])} == {"add"}
    assert len(calls_of(single[0])) == 1


async def test_calls_that_are_required_end(service: GenerationService) -> None:
    """This model, cold, repeats the call that it began with."""
    asked = request(
        "What is the weather in Paris?", 0.0, tools=TOOLS, tool_choice=ToolChoice("required"), max_tokens=2000
    )
    events, reason = await collect(service, asked)
    calls = calls_of(events)
    assert reason is FinishReason.TOOL_CALLS
    assert calls
    assert_valid(calls)
    assert len({(call.name, call.arguments) for call in calls}) == len(calls)
