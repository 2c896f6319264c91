"""Asks a service over a scripted engine."""

from app.contract.events import ServiceEvent, TextEvent
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.contract.telemetry import Observers
from app.serving.prompt.prompts import Prompts
from app.serving.service import GenerationService
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder


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
    engine: ControlledEngine, prompts: Prompts, recorder: Recorder, **settings: object
) -> GenerationService:
    await engine.start()
    return GenerationService(engine, prompts, Observers([recorder]), Settings(**settings))  # type: ignore[arg-type]  # settings of several types


async def collect(service: GenerationService, generation: GenerationRequest) -> list[ServiceEvent]:
    async with await service.open(generation) as answer:
        return [event async for _, event in answer]


def text_of(events: list[ServiceEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))
