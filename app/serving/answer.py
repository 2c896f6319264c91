"""One answer: its pieces, then exactly one Finished, and one RequestEnded for the observers."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar

from app.contract.caller import current_caller
from app.contract.errors import ClientClosed, DeadlineExceeded, GenerationFailed, ServingError
from app.contract.events import Finished, FinishReason, Piece, PromptEvent, ServiceEvent, Usage
from app.contract.progress import Progress
from app.contract.requests import GenerationRequest
from app.contract.telemetry import FirstToken, Observer, RequestEnded, TokenGap
from app.serving.admission import Reservation
from app.serving.echo import Echo
from app.serving.tools.stream import piece_text

_log = logging.getLogger(__name__)

_ENGINE_GRACE = 1.0  # seconds after the deadline in which the engine may still end the request itself


class Counted(Protocol):
    """An event of an engine with new tokens."""

    @property
    def count(self) -> int:
        """How many."""
        ...


New = TypeVar("New", bound=Counted)
New_co = TypeVar("New_co", bound=Counted, covariant=True)
New_contra = TypeVar("New_contra", bound=Counted, contravariant=True)


class Asked(Protocol):
    """What an engine was asked for."""

    @property
    def prompt_tokens(self) -> int: ...

    @property
    def max_tokens(self) -> int | None:
        """None: as many as the engine allows, which is not known here."""
        ...

    @property
    def deadline_at(self) -> float | None: ...

    @property
    def progress(self) -> Progress: ...


class Events(Protocol[New_co]):
    """What an engine tells of one answer: an asynchronous generator, or what behaves like one."""

    def __anext__(self) -> Awaitable[PromptEvent | New_co | Finished]: ...

    async def aclose(self) -> None:
        """End the engine's request if it still runs, also before the first event was asked for."""


class Output(Protocol[New_contra]):
    """Events with new tokens in, pieces out."""

    @property
    def stopped(self) -> bool:
        """Nothing more comes out, whatever follows."""
        ...

    @property
    def stop_string(self) -> str | None:
        """The stop string that was found."""
        ...

    @property
    def whole_calls(self) -> bool:
        """Whether tool calls came out so far, and all of them are whole."""
        ...

    def push(self, event: New_contra) -> Sequence[Piece]: ...

    def flush(self) -> Sequence[Piece]:
        """The rest, when no token follows."""
        ...


@dataclass(slots=True)
class Together:
    """What all answers to one client's request have so far."""

    new_tokens: int = 0


class Answer(Generic[New]):
    """An async context manager and, within it, an async iterator of pieces that ends with one Finished.

    Leaving the context ends the answer: the engine's request is cancelled if it still runs, the reservation is
    released, and the observers get one RequestEnded.
    """

    def __init__(
        self,
        *,
        request: GenerationRequest,
        engine_request: Asked,
        events: Events[New],
        model: str,
        output: Output[New],
        echo: Echo | None,
        reservation: Reservation,
        observers: Observer,
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
        self._together = together
        self._progress = engine_request.progress
        self._last_token_at: float | None = None
        self._largest_gap: float | None = None
        self._response: list[str] = []
        self._finished: Finished | None = None
        self._told = False
        self._events = self._run()

    @property
    def prompt_tokens(self) -> int:
        return self._engine_request.prompt_tokens

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._events.aclose()
            await self._engine_events.aclose()
        finally:
            self._tell(self._finished or self._with_timings(self._left(error)))

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
        self._finished = self._with_timings(self._as_seen(self._finished))
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
        return replace(finished, stop=self._output.stop_string or finished.stop) if named else finished

    async def _until_deadline(self) -> AsyncGenerator[PromptEvent | New | Finished, None]:
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
                        event = await events.__anext__()
                except TimeoutError:
                    raise DeadlineExceeded from None
                except StopAsyncIteration:
                    return
                yield event

    def _push(self, event: PromptEvent | New) -> Sequence[Piece]:
        if isinstance(event, PromptEvent):
            return () if self._echo is None else self._echo.push(event)
        self._count_tokens(time.monotonic(), event.count)
        return self._remember(self._output.push(event))

    def _count_tokens(self, now: float, count: int) -> None:
        """Of several that came together, all but the first came without a gap."""
        if count == 0:
            return
        if self._last_token_at is None:
            self._progress.first_token_at = now
            self.began.set()
            if self._together.new_tokens == 0:
                since = now - self._progress.arrived_at
                self._observers.notify(FirstToken(self.request, current_caller(), self._model, since))
        else:
            gap = now - self._last_token_at
            self._largest_gap = max(gap, self._largest_gap or 0.0)
            self._observers.notify(TokenGap(gap))
        self._last_token_at = now
        self.new_tokens += count
        self._together.new_tokens += count
        self._reservation.count_tokens(count)

    def _remember(self, pieces: Sequence[Piece]) -> Sequence[Piece]:
        self._response += [piece_text(piece) for piece in pieces]
        return pieces

    def _ended(self, reason: FinishReason, error: ServingError | None = None) -> Finished:
        """The Finished of an answer that the engine did not end."""
        return Finished(reason, Usage(self.prompt_tokens, self.new_tokens, self._progress.cached_tokens), error=error)

    def _with_timings(self, finished: Finished) -> Finished:
        return replace(finished, timings=self._progress.timings(time.monotonic()))

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
        if not isinstance(finished.error, ClientClosed):
            self._reservation.count_length()
        self._reservation.release()
        progress, timings = self._progress, finished.timings
        self._observers.notify(
            RequestEnded(
                id=self.request.id,
                caller=current_caller(),
                request=self.request,
                model=self._model,
                status=finished.failure.status if finished.failure else 200,
                error=finished.error,
                response="".join(self._response),
                finished=finished,
                max_tokens=self._engine_request.max_tokens,
                duration=timings.total,
                time_to_first_token=None if progress.first_token_at is None else timings.to_first_token,
                largest_gap=self._largest_gap,
                mean_batch=progress.mean_batch,
                preemptions=progress.preemptions,
                first_step=progress.first_step,
                last_step=progress.last_step,
                upstream=progress.upstream,
            )
        )
