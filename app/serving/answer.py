"""One answer: its pieces, then exactly one Finished, and one RequestEnded for the observers."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from app.contract.errors import ClientClosed, DeadlineExceeded, GenerationFailed, ServingError
from app.contract.events import (
    EngineEvent,
    Finished,
    FinishReason,
    Piece,
    PromptEvent,
    ServiceEvent,
    Start,
    Timings,
    TokenEvent,
    Usage,
)
from app.contract.requests import EngineRequest, GenerationRequest
from app.contract.telemetry import Observer, RequestEnded
from app.serving.admission import Reservation
from app.serving.echo import Echo
from app.serving.output import OutputStream
from app.serving.tools.stream import piece_text

_log = logging.getLogger(__name__)

_ENGINE_GRACE = 1.0  # seconds after the deadline in which the engine may still end the request itself


@dataclass(slots=True)
class Together:
    """What all answers to one client's request have so far."""

    new_tokens: int = 0


class Answer:
    """An async context manager and, within it, an async iterator of pieces that ends with one Finished.

    Leaving the context ends the answer: the engine's request is cancelled if it still runs, the reservation is
    released, and the observers get one RequestEnded.
    """

    def __init__(
        self,
        *,
        request: GenerationRequest,
        engine_request: EngineRequest,
        events: AsyncGenerator[EngineEvent, None],
        model: str,
        output: OutputStream,
        echo: Echo | None,
        reservation: Reservation,
        observers: Observer,
        arrived_at: float,
        together: Together,
    ) -> None:
        self.request = request
        self.began = asyncio.Event()  # set at the first token, or at the end if there is none
        self.new_tokens = 0
        self._engine_request = engine_request
        self._engine_events = events
        self._model = model
        self._output = output
        self._echo = echo
        self._reservation = reservation
        self._observers = observers
        self._arrived_at = arrived_at
        self._together = together
        self._first_token_at: float | None = None
        self._start: Start | None = None
        self._response: list[str] = []
        self._finished: Finished | None = None
        self._told = False
        self._events = self._run()

    @property
    def prompt_tokens(self) -> int:
        return len(self._engine_request.tokens)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._events.aclose()
        finally:
            self._tell(self._finished or self._left(error))

    def __aiter__(self) -> AsyncIterator[ServiceEvent]:
        return self._events

    async def _run(self) -> AsyncGenerator[ServiceEvent, None]:
        try:
            async with aclosing(self._until_deadline()) as events:
                async for event in events:
                    if isinstance(event, Finished):
                        self._finished = event
                        break
                    for piece in self._push(event):
                        yield piece
                    if self._output.stopped:
                        self._finished = self._ended(FinishReason.STOP)
                        break
        except ServingError as error:
            self._finished = self._ended(FinishReason.ERROR, error)
        except Exception:  # noqa: BLE001  # the client must get a last event
            _log.exception("the engine raised an unexpected exception", extra={"request_id": self.request.id})
            self._finished = self._ended(FinishReason.ERROR, GenerationFailed())
        self.began.set()
        for piece in self._remember(self._output.flush()):
            yield piece
        self._finished = self._finished or self._ended(FinishReason.ERROR, GenerationFailed())
        self._finished = self._as_seen(self._finished)
        self._tell(self._finished)
        yield self._finished

    def _as_seen(self, finished: Finished) -> Finished:
        """The end with its reason by what came out. At the deadline that is the answer, if it is anything."""
        begun = self._together.new_tokens > 0 and (self._echo is None or self._echo.whole)
        if isinstance(finished.error, DeadlineExceeded) and begun:
            finished = replace(finished, reason=FinishReason.LENGTH)
        if self._output.stopped and finished.reason is FinishReason.LENGTH:  # a stop string in the flushed rest
            finished = replace(finished, reason=FinishReason.STOP, error=None)
        cut = finished.reason is FinishReason.LENGTH and finished.error is None  # by max_tokens
        if self._output.whole_calls and (cut or finished.reason is FinishReason.STOP):
            finished = replace(finished, reason=FinishReason.TOOL_CALLS)
        named = finished.reason in {FinishReason.STOP, FinishReason.TOOL_CALLS}
        return replace(finished, stop=self._output.stop_string) if named else finished

    async def _until_deadline(self) -> AsyncGenerator[EngineEvent, None]:
        """The engine's events. Raises what the engine raises, and DeadlineExceeded when it hangs.

        The engine checks the deadline itself, and its Finished has exact figures. But it checks between two steps,
        and a client must not wait for a step that never ends.
        """
        deadline = self._engine_request.deadline_at
        give_up_at = None if deadline is None else deadline + _ENGINE_GRACE
        async with aclosing(self._engine_events) as events:
            while True:
                try:
                    async with asyncio.timeout_at(give_up_at):  # the loop's clock is the monotonic one
                        event = await anext(events)
                except TimeoutError:
                    raise DeadlineExceeded from None
                except StopAsyncIteration:
                    return
                yield event

    def _push(self, event: PromptEvent | TokenEvent) -> Sequence[Piece]:
        if isinstance(event, PromptEvent):
            return () if self._echo is None else self._echo.push(event)
        if self._first_token_at is None:
            self._first_token_at = time.monotonic()
            self._start = event.start
            self.began.set()
        self.new_tokens += 1
        self._together.new_tokens += 1
        self._reservation.count_token()
        return self._remember(self._output.push(event))

    def _remember(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        self._response += [piece_text(piece) for piece in pieces]
        return pieces

    def _ended(self, reason: FinishReason, error: ServingError | None = None) -> Finished:
        """The Finished of an answer that the engine did not end. Without a first token, `prefill` includes the
        waiting time."""
        now = time.monotonic()
        first = self._first_token_at or now
        start = self._start or Start(queued=0.0, cached_tokens=0)
        usage = Usage(self.prompt_tokens, self.new_tokens, start.cached_tokens)
        prefill = max(0.0, first - self._arrived_at - start.queued)
        return Finished(reason, usage, Timings(start.queued, prefill, now - first), error)

    def _left(self, error: BaseException | None) -> Finished:
        """The Finished of an answer whose reader stopped early."""
        if isinstance(error, Exception):  # not a cancellation: the reader failed
            return self._ended(FinishReason.ERROR, ServingError())
        return self._ended(FinishReason.CANCELLED, ClientClosed())

    def _tell(self, finished: Finished) -> None:
        if self._told:
            return
        self._told = True
        if finished.failure is None:
            self._reservation.count_speed(finished.usage, finished.timings)
        self._reservation.release()
        first = self._first_token_at
        self._observers.notify(
            RequestEnded(
                id=self.request.id,
                request=self.request,
                model=self._model,
                status=finished.failure.status if finished.failure else 200,
                error_code=finished.error.code if finished.error else None,
                response="".join(self._response),
                finished=finished,
                duration=time.monotonic() - self._arrived_at,
                time_to_first_token=None if first is None else first - self._arrived_at,
            )
        )
