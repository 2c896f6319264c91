"""The scripted engine with what tests control of it: its tokens, its pace, its errors and its phase."""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace

from app.contract.engine import Capacity, EngineStatus, ModelInfo, Phase
from app.contract.errors import ServingError
from app.contract.events import EngineEvent
from app.contract.requests import EngineRequest
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.engine.scripted import SCRIPTED_MODEL, ScriptedEngine


class ControlledEngine(ScriptedEngine):
    """Every request gets the tokens of `script` and a stop token, again and again until it ends; without a script
    those of the scripted engine.

    `gates[n]` holds every request before its n-th token (counted from 0) until the event is set. After `fail[0]`
    tokens a request ends with the error `fail[1]`. `cached` tokens of every prompt count as known. Unless `ready`, it
    loads until the test says otherwise with `become`.
    """

    def __init__(
        self,
        script: Sequence[int] | None = None,
        *,
        model: ModelInfo = SCRIPTED_MODEL,
        capacity: Capacity = Capacity(sequences=4, kv_tokens=16_384),  # noqa: B008  # frozen
        gates: Mapping[int, asyncio.Event] | None = None,
        fail: tuple[int, ServingError] | None = None,
        ready: bool = True,
        cached: int = 0,
        grammars: Grammars | None = None,
    ) -> None:
        super().__init__(model=model, capacity=capacity, grammars=grammars)
        self.cancelled: list[str] = []  # ids of the requests whose reader left, in that order
        self._script = script
        self._gates = gates or {}
        self._fail = fail
        self.loads_at_once = ready
        self._cached = cached
        self._progress, self._detail, self._alive = 0.0, "nothing is loaded", True

    def status(self) -> EngineStatus:
        return replace(super().status(), progress=self._progress, detail=self._detail, alive=self._alive)

    def become(self, phase: Phase, progress: float = 1.0, detail: str = "", *, alive: bool = True) -> None:
        """Change the phase."""
        self._phase, self._progress, self._detail, self._alive = phase, progress, detail, alive

    async def start(self) -> None:
        if self.loads_at_once:
            self.become(Phase.READY)
        else:
            self.become(Phase.LOADING, 0.0, "loads until a test makes it ready")

    async def _events(
        self, request: EngineRequest, constraint: Constraint | None
    ) -> AsyncGenerator[EngineEvent, None]:
        request.progress.cached_tokens = self._cached
        try:
            async with aclosing(super()._events(request, constraint)) as events:
                async for event in events:
                    yield event
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(request.id)
            raise

    async def _tokens(self, request: EngineRequest) -> AsyncGenerator[int, None]:
        script = itertools.cycle([*(self._script or ()), *sorted(self.model.stop_tokens)[:1]])
        async with aclosing(super()._tokens(request)) as tokens:
            for count in itertools.count():
                if self._fail is not None and count == self._fail[0]:
                    raise self._fail[1]
                await self._pause(self._gates.get(count), request)
                yield next(script) if self._script is not None else await anext(tokens)
