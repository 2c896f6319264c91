"""Admission: a request is taken before any 200 is sent, or refused with a 429 whose Retry-After is computed.

See docs/decisions/0101-admission.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from app.contract.engine import Capacity
from app.contract.errors import Overloaded
from app.contract.events import Timings, Usage
from app.serving.expected_wait import Stay, Work, stays
from app.serving.speed import AnswerLengths, Speed

PROMPT_CACHES = 4
"""The prompts inside may have this many times the KV cache's tokens together."""

SHORTEST_RETRY, LONGEST_RETRY = 1, 600
"""Bounds of Retry-After, in seconds."""


class Reservation:
    """One admitted request: its place, and later its prompt. A second release does nothing."""

    def __init__(self, admission: "Admission") -> None:
        self.prompt_tokens = 0  # 0: not known yet
        self.max_tokens = 0
        self.generated = 0
        self._admission = admission
        self._released = False

    def count_token(self) -> None:
        self.generated += 1

    def count_speed(self, usage: Usage, timings: Timings) -> None:
        """Of an answer that succeeded."""
        self._admission.speed.count(usage, timings)

    def release(self) -> None:
        if not self._released:
            self._released = True
            self._admission.release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be admitted at once, and what of it remains at the moment. The tokens are those of prompts."""

    requests: int
    remaining_requests: int
    tokens: int
    remaining_tokens: int


@dataclass(frozen=True, slots=True)
class Size:
    """The tokens of a prompt, and the most that its answer may have."""

    prompt_tokens: int
    max_tokens: int


class Admission:
    """Bounds the requests inside by number, by the tokens of their prompts, and by the time that they would wait."""

    def __init__(self, max_waiting: int, max_wait: float) -> None:
        self.speed = Speed()
        self._lengths = AnswerLengths()
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._inside: dict[Reservation, None] = {}  # in the order of their arrival
        self._prompt_tokens = 0

    def max_requests(self, capacity: Capacity) -> int:
        return capacity.sequences + self._max_waiting

    def limits(self, capacity: Capacity) -> Limits:
        requests, tokens = self.max_requests(capacity), capacity.kv_tokens * PROMPT_CACHES
        return Limits(
            requests=requests,
            remaining_requests=requests - len(self._inside),
            tokens=tokens,
            remaining_tokens=tokens - self._prompt_tokens,
        )

    def enter(self, capacity: Capacity) -> Reservation:
        """A place, before the prompt is even tokenized. Raises Overloaded."""
        if len(self._inside) >= self.max_requests(capacity):
            ends = sorted(stay.end for stay in self._stays(capacity))
            raise Overloaded(
                f"The server is full: {capacity.sequences} running, {self._max_waiting} queued.",
                retry_after=_retry_after(ends[0] if ends else 0.0),
            )
        reservation = Reservation(self)
        self._inside[reservation] = None
        return reservation

    def take(self, reservations: Sequence[Reservation], sizes: Sequence[Size], capacity: Capacity) -> None:
        """The sizes of one client's request, which may want several answers. Raises Overloaded for all or none.

        How long answers wait for others of the same request is the client's own affair: the wait of the first counts.
        """
        self._bound_prompts(sum(size.prompt_tokens for size in sizes), capacity)
        self._bound_wait(sizes[0], capacity)
        for reservation, size in zip(reservations, sizes, strict=True):
            reservation.prompt_tokens, reservation.max_tokens = size.prompt_tokens, size.max_tokens
            self._prompt_tokens += size.prompt_tokens

    def release(self, reservation: Reservation) -> None:
        del self._inside[reservation]
        self._prompt_tokens -= reservation.prompt_tokens
        if reservation.generated:
            self._lengths.count(reservation.generated)

    def _bound_prompts(self, wanted: int, capacity: Capacity) -> None:
        bound = capacity.kv_tokens * PROMPT_CACHES
        if self._prompt_tokens + wanted <= bound:
            return
        left, seconds = self._prompt_tokens, 0.0
        leaving = zip(self._stays(capacity), self._prompts_inside(), strict=True)
        for stay, reservation in sorted(leaving, key=lambda pair: pair[0].end):
            left, seconds = left - reservation.prompt_tokens, stay.end
            if left + wanted <= bound:
                break
        raise Overloaded(
            f"The server is full: the prompts inside have {self._prompt_tokens} tokens, this request's have "
            f"{wanted}: together they may have {bound}.",
            retry_after=_retry_after(seconds),
        )

    def _bound_wait(self, size: Size, capacity: Capacity) -> None:
        if not self.speed.measured:  # an assumed speed or length refuses none
            return
        wait = self._stays(capacity, size)[-1].start
        if wait > self._max_wait:
            raise Overloaded(
                f"The server is full: a new answer would begin in about {math.ceil(wait)} seconds, and may wait for "
                f"{self._max_wait:g}.",
                retry_after=_retry_after(wait - self._max_wait),
            )

    def _stays(self, capacity: Capacity, *new: Size) -> list[Stay]:
        """Those of the prompts inside, in their order, then those of `new`."""
        inside = [self._work(held.prompt_tokens, held.max_tokens, held.generated) for held in self._prompts_inside()]
        added = [self._work(size.prompt_tokens, size.max_tokens, 0) for size in new]
        return list(stays([*inside, *added], capacity))

    def _prompts_inside(self) -> list[Reservation]:
        return [reservation for reservation in self._inside if reservation.prompt_tokens]

    def _work(self, prompt_tokens: int, max_tokens: int, generated: int) -> Work:
        remaining = self._lengths.remaining(generated, max_tokens)
        return Work(
            seconds=self.speed.seconds(0 if generated else prompt_tokens, remaining),
            kv_tokens=prompt_tokens + generated + remaining,
        )


def _retry_after(seconds: float) -> float:
    return float(min(LONGEST_RETRY, max(SHORTEST_RETRY, math.ceil(seconds))))
