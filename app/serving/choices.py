"""All answers to one client's request: read together, ended together, and one RequestEnded for them.

See docs/decisions/0103-choices-of-one-request.md.
"""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import astuple, replace
from itertools import accumulate, pairwise
from types import TracebackType
from typing import Any, Self, cast

from app.contract.events import Finished, FinishReason, ServiceEvent, Timings, Usage
from app.contract.requests import GenerationRequest
from app.contract.telemetry import Choice, Event, Observers, RequestEnded
from app.serving.answer import Answer

_WORST_FIRST = (
    FinishReason.ERROR,
    FinishReason.CANCELLED,
    FinishReason.LENGTH,
    FinishReason.TOOL_CALLS,
    FinishReason.STOP,
)


def each_choice(requests: Sequence[GenerationRequest]) -> list[GenerationRequest]:
    """`n` requests for each, with different seeds. The first keeps the request's own seed, as if it were alone."""
    return [
        replace(request, sampling=replace(request.sampling, seed=_seed(request.sampling.seed, number)))
        for request in requests
        for number in range(request.n)
    ]


class MergedEnd:
    """Merges the RequestEnded events of all answers of one request into one, for the observers. Their other events
    pass."""

    def __init__(self, observers: Observers, per_prompt: int) -> None:
        self._observers = observers
        self._per_prompt = per_prompt
        self._ends: list[RequestEnded] = []

    def notify(self, event: Event) -> None:
        if isinstance(event, RequestEnded):
            self._ends.append(event)
        else:
            self._observers.notify(event)

    def tell(self, requests: Sequence[GenerationRequest]) -> None:
        """Call it when every answer has ended."""
        by_request = {id(end.request): end for end in self._ends}
        ends = [by_request[id(request)] for request in requests]
        # Of equally bad ones the first: its error ended the others.
        worst = min(self._ends, key=lambda end: _WORST_FIRST.index(_ended(end).reason))
        self._observers.notify(together(ends, worst, self._per_prompt))


class Choices:
    """An async context manager and, within it, an async iterator of (choice, event) as they arrive.

    The iterator ends when every choice has finished, or after the first Finished with an error. Leaving the context
    ends what still runs. Choice `i` answers the prompt `i // n`.
    """

    def __init__(self, answers: Sequence[Answer[Any]], end: MergedEnd, per_prompt: int) -> None:
        self._answers = answers
        self._end = end
        self._per_prompt = per_prompt
        self._queue: asyncio.Queue[tuple[int, ServiceEvent] | Exception] = asyncio.Queue()
        self._pumps: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    def usage(self) -> Usage:
        """So far; cached tokens are known at the end only."""
        return Usage(
            prompt_tokens=sum(answer.prompt_tokens for answer in self._answers[:: self._per_prompt]),
            completion_tokens=sum(answer.new_tokens for answer in self._answers),
        )

    async def __aenter__(self) -> Self:
        for answer in self._answers:
            await self._stack.enter_async_context(answer)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for pump in self._pumps:
            pump.cancel()
        try:
            await asyncio.gather(*self._pumps, return_exceptions=True)
        finally:  # also where the reader is cancelled once more meanwhile, as Ray Serve does
            try:
                await self._stack.__aexit__(kind, error, traceback)
            finally:
                self._end.tell([answer.request for answer in self._answers])

    def __aiter__(self) -> AsyncIterator[tuple[int, ServiceEvent]]:
        return self._run()

    async def _run(self) -> AsyncGenerator[tuple[int, ServiceEvent], None]:
        self._pumps = [asyncio.create_task(self._pump(index)) for index in range(len(self._answers))]
        running = len(self._answers)
        while running:
            event = await self._queue.get()
            if isinstance(event, Exception):
                raise event
            yield event
            if isinstance(event[1], Finished):
                running -= 1
                if event[1].failure is not None:
                    return

    async def _pump(self, index: int) -> None:
        first = self._answers[index - index % self._per_prompt]
        answer = self._answers[index]
        try:
            if answer is not first:
                await first.began.wait()  # then the prompt is in the cache, and the others need not compute it
            async for event in answer:
                self._queue.put_nowait((index, event))
        except Exception as error:  # noqa: BLE001  # the reader must not wait for ever
            self._queue.put_nowait(error)


def together(ends: Sequence[RequestEnded], worst: RequestEnded, per_prompt: int) -> RequestEnded:
    """The merged end: the worst end, and the sums of all answers."""
    first, *others = ends
    if not others:
        return first
    finished = [_ended(end) for end in ends]
    first_tokens = [end.time_to_first_token for end in ends if end.time_to_first_token is not None]
    return replace(
        first,
        status=worst.status,
        error=worst.error,
        finished=Finished(
            _ended(worst).reason,
            summed_usage([one.usage for one in finished], per_prompt),
            overall([one.timings for one in finished]),
            _ended(worst).error,
        ),
        duration=max(end.duration for end in ends),
        time_to_first_token=min(first_tokens, default=None),
        largest_gap=max((end.largest_gap for end in ends if end.largest_gap is not None), default=None),
        mean_batch=_mean([end.mean_batch for end in ends if end.mean_batch is not None]),
        preemptions=sum(end.preemptions for end in ends),
        first_step=min((end.first_step for end in ends if end.first_step is not None), default=None),
        last_step=max((end.last_step for end in ends if end.last_step is not None), default=None),
        choices=tuple(Choice(_asked(end), end.response, _ended(end).reason) for end in ends),
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _asked(end: RequestEnded) -> GenerationRequest:
    """The ends of answers always have a request."""
    return cast("GenerationRequest", end.request)


def _ended(end: RequestEnded) -> Finished:
    """The ends of opened answers always have a Finished."""
    return cast("Finished", end.finished)


def summed_usage(usages: Sequence[Usage], per_prompt: int) -> Usage:
    """Of the choices of a request, in order. Each prompt counts once, with the cached tokens of its first choice."""
    prompts = usages[::per_prompt]
    return Usage(
        prompt_tokens=sum(usage.prompt_tokens for usage in prompts),
        completion_tokens=sum(usage.completion_tokens for usage in usages),
        cached_tokens=sum(usage.cached_tokens for usage in prompts),
    )


def overall(timings: Sequence[Timings]) -> Timings:
    """Of answers to one request: from the earliest beginnings to the latest end."""
    boundaries = [list(accumulate(astuple(one))) for one in timings]  # seconds from arrival to each stage's end
    *earliest, _ = map(min, zip(*boundaries, strict=True))
    ends = [*earliest, max(last for *_, last in boundaries)]
    return Timings(*(end - begin for begin, end in pairwise([0.0, *ends])))


def _seed(seed: int, number: int) -> int:
    """Different seeds that follow from the request's seed: a repeated request gets the same choices."""
    if number == 0:
        return seed
    return int.from_bytes(hashlib.sha256(f"{seed} {number}".encode()).digest()[:8]) >> 1
