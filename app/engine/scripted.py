"""An engine without a model: to measure everything in front of an engine, and for tests.

It passes the tests that every engine passes (`tests/contracts`). Tests control it by a subclass
(`tests/support/controlled.py`).
"""

import asyncio
import itertools
import random
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from app.contract.engine import Capacity, EngineStatus, ModelInfo, Phase, SamplingDefaults
from app.contract.errors import DeadlineExceeded, GrammarExhausted, InvalidRequest, NoTokenLeft, ServingError
from app.contract.events import EngineEvent, Finished, FinishReason, PromptEvent, TokenEvent, Usage
from app.contract.readiness import interrupted, refuse_unless_open, refuse_unless_ready
from app.contract.requests import EngineRequest
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint

SCRIPTED_MODEL = ModelInfo(
    name="scripted",
    context_tokens=2048,
    stop_tokens=frozenset({2}),  # SmolLM2's <|im_end|>, so that its tokenizer fits
    vocabulary=49_152,
    defaults=SamplingDefaults(),
)


class ScriptedEngine:
    """The tokens of every answer follow from its prompt and its seed.

    Where a request's grammar does not allow the next token, it gets a stop token if that is allowed, else the lowest
    one that is. Without `grammars`, which know a tokenizer, requests with a grammar are refused.
    """

    def __init__(
        self,
        *,
        model: ModelInfo = SCRIPTED_MODEL,
        capacity: Capacity = Capacity(sequences=4, kv_tokens=16_384),  # noqa: B008  # frozen
        grammars: Grammars | None = None,
    ) -> None:
        self.model = model
        self.capacity = capacity
        self.grammars = grammars
        self._phase = Phase.STARTING
        self._started_at = time.monotonic()
        self._slots = asyncio.Semaphore(capacity.sequences)
        self._running = 0
        self._step = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._timers: set[asyncio.Timeout] = set()

    def status(self) -> EngineStatus:
        progress = 0.0 if self._phase is Phase.STARTING else 1.0
        return EngineStatus(self._phase, progress, "", time.monotonic() - self._started_at, alive=True)

    async def start(self) -> None:
        self._phase = Phase.READY

    async def drain(self) -> None:
        self._phase = Phase.DRAINING
        await self._idle.wait()

    async def stop(self) -> None:
        self._phase = Phase.STOPPED
        for timer in self._timers:
            timer.reschedule(asyncio.get_running_loop().time())

    async def open(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        refuse_unless_ready(self.status())
        constraint = None
        if request.grammar is not None:
            if self.grammars is None:
                raise InvalidRequest("This engine enforces no grammars.", param=request.grammar.param)
            constraint = await self.grammars.constraint(request.grammar, request.tenant)
        return self._events(request, constraint)

    async def _events(
        self, request: EngineRequest, constraint: Constraint | None
    ) -> AsyncGenerator[EngineEvent, None]:
        refuse_unless_open(self.status())
        self._running += 1
        self._idle.clear()
        try:
            async with aclosing(self._play(request, constraint)) as events:
                async for event in events:
                    yield event
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _play(self, request: EngineRequest, constraint: Constraint | None) -> AsyncGenerator[EngineEvent, None]:
        count = 0
        has_slot = False
        reason, error = FinishReason.LENGTH, None
        try:
            has_slot = await self._pause(self._slots, request)
            request.progress.started_at = time.monotonic()
            if request.prompt_logprobs is not None:
                yield _prompt_event(request.tokens, request.prompt_logprobs)
            async with aclosing(self._tokens(request)) as tokens:
                async for wanted in tokens:
                    if request.max_tokens == 0:
                        break
                    token = wanted if constraint is None else _allowed(wanted, constraint, request.stop_tokens)
                    count += 1
                    self._step += 1
                    request.progress.computed_in(self._step)
                    request.progress.steps += 1
                    request.progress.neighbours += self._running
                    yield _token_event(token, request.sampling.top_logprobs)
                    if token in request.stop_tokens:
                        reason = FinishReason.STOP
                        break
                    if count == request.max_tokens:
                        break
        except ServingError as failure:
            error = failure
            reason = FinishReason.LENGTH if isinstance(failure, GrammarExhausted) else FinishReason.ERROR
        finally:
            if has_slot:
                self._slots.release()
        yield Finished(reason, Usage(len(request.tokens), count, request.progress.cached_tokens), error=error)

    async def _tokens(self, request: EngineRequest) -> AsyncGenerator[int, None]:
        """The tokens of a request without an end, each when its step would be done. Raises what `_pause` raises."""
        dice = random.Random(f"{request.sampling.seed} {request.tokens}")  # noqa: S311  # no secret
        drawn = iter(lambda: dice.randrange(self.model.vocabulary), None)
        for token in drawn:
            if token not in self.model.stop_tokens:
                await self._pause(None, request)
                yield token

    async def _pause(self, until: asyncio.Event | asyncio.Semaphore | None, request: EngineRequest) -> bool:
        """Wait for an event, a slot or, without either, one turn of the loop. Raises Interrupted when the engine
        stops, DeadlineExceeded at the deadline."""
        try:
            async with asyncio.timeout_at(request.deadline_at) as timer:
                self._timers.add(timer)
                if self._phase is Phase.STOPPED:
                    raise interrupted()
                await asyncio.sleep(0)  # lets other requests go on, as between two steps
                if isinstance(until, asyncio.Semaphore):
                    await until.acquire()
                elif until is not None:
                    await until.wait()
        except TimeoutError:
            if self._phase is Phase.STOPPED:
                raise interrupted() from None
            raise DeadlineExceeded from None
        finally:
            self._timers.discard(timer)
        return True


def _token_event(token: int, top_logprobs: int | None) -> TokenEvent:
    """With log-probabilities, if they are wanted: the token is the most likely one, and its neighbours follow."""
    if top_logprobs is None:
        return TokenEvent(token)
    others = tuple((token + place, -0.5 - place) for place in range(top_logprobs))
    return TokenEvent(token, -0.5, others)


def _prompt_event(prompt: tuple[int, ...], top: int) -> PromptEvent:
    first, *others = prompt
    return PromptEvent((TokenEvent(first), *(_token_event(token, top) for token in others)))


def _allowed(wanted: int, constraint: Constraint, stop_tokens: frozenset[int]) -> int:
    """The wanted token, or what the constraint allows instead. Raises NoTokenLeft when that is nothing,
    GrammarExhausted."""
    try:
        allowed = constraint.allowed()
        choices = itertools.chain([wanted], sorted(stop_tokens), range(len(allowed) * 8))
        token = next(t for t in choices if t // 8 < len(allowed) and allowed[t // 8] >> t % 8 & 1)
        constraint.accept(token)
    except GrammarExhausted:
        raise
    except Exception:  # noqa: BLE001  # a constraint may raise anything; StopIteration: it allows no token
        raise NoTokenLeft from None
    return token
