"""The contestant "our engine": `app.engine.local` in this process, as the app runs it, without HTTP.

The event loop is on the main thread and torch on the engine's own.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass, field
from typing import Any

from app.contract.engine import Phase
from app.contract.events import Finished, FinishReason, TokenEvent
from app.contract.requests import EngineRequest, SamplingParams
from app.contract.telemetry import EngineLoad, Event, Observers, PhaseChanged, StepDone
from app.engine.local import LocalEngine
from app.local_engine import local_engine
from app.models.selection import select_model
from app.settings import load_settings
from bench.workers.pipe import answers, serve

_names = itertools.count()


@dataclass
class Heard:
    """The steps and loads since the last question, and the detail of the loading phase."""

    steps: list[StepDone] = field(default_factory=list)
    loads: list[tuple[float, EngineLoad]] = field(default_factory=list)  # and when they were told
    loading: str = ""

    def notify(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.steps.append(event)
        elif isinstance(event, EngineLoad):
            self.loads.append((time.monotonic(), event))
        elif isinstance(event, PhaseChanged) and event.phase == Phase.LOADING:
            self.loading = event.detail


def main() -> None:
    pipe = answers()
    with asyncio.Runner() as runner:
        heard = Heard()
        settings = load_settings(None)
        engine = local_engine(settings, select_model(settings), Observers([heard]))
        runner.run(started(engine))
        ready = {"model": engine.model.name, "loading": heard.loading}
        serve(pipe, ready, lambda question: runner.run(answer(engine, heard, question)))
        runner.run(engine.stop())


async def started(engine: LocalEngine) -> None:
    await engine.start()
    while True:
        status = engine.status()
        if status.phase is Phase.READY:
            return
        if status.phase is Phase.FAILED or not status.alive:
            raise SystemExit(f"the engine failed: {status.detail}")
        await asyncio.sleep(0.05)


async def answer(engine: LocalEngine, heard: Heard, question: dict[str, Any]) -> dict[str, Any]:
    """All `prompts` at once, exactly `tokens` new tokens each; and `late`, for one token, when each has its first.

    Returns the seconds for all, each token of each prompt and when it came, when `late` was sent and when its token
    came, the steps as [kind, tokens, seconds], and the loads as [time, running, KV tokens used, preemptions].
    """
    heard.steps.clear()
    heard.loads.clear()
    begun = time.monotonic()
    firsts = [asyncio.Event() for _ in question["prompts"]]
    streams = [
        asyncio.create_task(streamed(engine, prompt, question["tokens"], first))
        for prompt, first in zip(question["prompts"], firsts, strict=True)
    ]
    late: list[float] = []
    if question.get("late"):
        for first in firsts:
            await first.wait()
        late = [time.monotonic(), *(await streamed(engine, question["late"], 1, asyncio.Event()))[0]]
    came, written = zip(*await asyncio.gather(*streams), strict=True)
    seconds = time.monotonic() - begun
    if any(len(each) != question["tokens"] for each in came):
        raise SystemExit("the engine did not generate what was asked")
    steps = [[step.kind, step.tokens, step.duration] for step in heard.steps]
    loads = [[when, load.running, load.kv.used, load.preemptions.total] for when, load in heard.loads]
    return {"seconds": seconds, "came": came, "answers": written, "late": late, "steps": steps, "loads": loads}


async def streamed(
    engine: LocalEngine, prompt: list[int], tokens: int, first: asyncio.Event
) -> tuple[list[float], list[int]]:
    """When each token came, and the tokens."""
    request = EngineRequest(
        id=f"bench-{next(_names)}",
        tokens=tuple(prompt),
        max_tokens=tokens,
        sampling=SamplingParams(seed=0, temperature=0.0),  # without stop tokens: exactly max_tokens
    )
    came: list[float] = []
    answer: list[int] = []
    async for event in await engine.open(request):
        if isinstance(event, TokenEvent):
            came.append(time.monotonic())
            answer.append(event.token)
            first.set()
        elif isinstance(event, Finished) and event.reason is not FinishReason.LENGTH:
            raise SystemExit(f"the engine ended with {event.reason}: {event.error}")
    return came, answer


if __name__ == "__main__":
    main()
