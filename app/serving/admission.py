"""Admission: a place and KV tokens are reserved before any 200 is sent, or the request is refused with a 429 whose
Retry-After is computed. See docs/decisions/0101-admission.md.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from app.contract.engine import Capacity
from app.contract.errors import Overloaded

KV_OVERBOOKING = 4
"""This many times the KV cache's tokens may be reserved at once: one cache's worth runs and the rest waits. Most
answers end before their `max_tokens`, so the wait is shorter than the reservations suggest."""

SHORTEST_WAIT, LONGEST_WAIT = 1, 60
"""Bounds of Retry-After, in seconds."""

_ASSUMED_ANSWER = 512  # tokens, before an answer was measured
_SHORTEST_EXPECTED = 64  # tokens: some answers are longer than the last ones
_ANSWERS = 64  # of which the mean length is taken

_WINDOW = 30.0  # seconds over which the token rate is measured
_ASSUMED_RATE = 20.0  # tokens per second before there is a measurement: one user of the script that this replaces


class TokenRate:
    """New tokens per second of all answers together, over the last 30 seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seconds: deque[tuple[int, int]] = deque()  # (whole second, tokens in it), oldest first

    def count(self) -> None:
        second = int(self._clock())
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds[-1] = (second, self._seconds[-1][1] + 1)
        else:
            self._seconds.append((second, 1))
        while self._seconds[0][0] < second - _WINDOW:
            self._seconds.popleft()

    def per_second(self) -> float:
        """The average over the seconds with tokens: idle seconds are excluded."""
        if not self._seconds:
            return _ASSUMED_RATE
        return sum(tokens for _, tokens in self._seconds) / len(self._seconds)


class AnswerLengths:
    """How long answers are lately. Most end long before their `max_tokens`, and most clients send none."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_ANSWERS)

    def count(self, tokens: int) -> None:
        self._lengths.append(tokens)

    def expected(self, max_tokens: int) -> int:
        """Tokens to reserve for an answer: twice the mean, within its `max_tokens`."""
        if not self._lengths:
            return min(max_tokens, _ASSUMED_ANSWER)
        mean = sum(self._lengths) / len(self._lengths)
        return min(max_tokens, max(_SHORTEST_EXPECTED, math.ceil(2 * mean)))


class Reservation:
    """One admitted request: its place, and later its KV tokens. A second release does nothing."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self._released = False
        self.kv_tokens = 0
        self.outstanding = 0  # new tokens that are expected to come
        self.generated = 0

    def take(self, prompt_tokens: int, max_tokens: int, capacity: Capacity) -> None:
        """Reserve KV tokens for this place. Raises Overloaded, and keeps the place until it is released."""
        self._admission.take(self, prompt_tokens, max_tokens, capacity)

    def count_token(self) -> None:
        self.generated += 1
        self.outstanding = max(0, self.outstanding - 1)
        self._admission.rate.count()

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
    """What may be admitted at once, and what of it remains at the moment."""

    requests: int
    remaining_requests: int
    tokens: int
    remaining_tokens: int


class Admission:
    """Limits the admitted requests by number (`capacity.sequences` run, `max_waiting` wait) and by KV tokens."""

    def __init__(self, max_waiting: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate = TokenRate(clock)
        self._lengths = AnswerLengths()
        self._max_waiting = max_waiting
        self._admitted: set[Reservation] = set()
        self._kv_tokens = 0

    def max_requests(self, capacity: Capacity) -> int:
        return capacity.sequences + self._max_waiting

    def limits(self, capacity: Capacity) -> Limits:
        requests, tokens = self.max_requests(capacity), capacity.kv_tokens * KV_OVERBOOKING
        return Limits(
            requests=requests,
            remaining_requests=requests - len(self._admitted),
            tokens=tokens,
            remaining_tokens=tokens - self._kv_tokens,
        )

    def enter(self, capacity: Capacity) -> Reservation:
        """A place, before the prompt is even tokenized. Raises Overloaded."""
        if len(self._admitted) >= self.max_requests(capacity):
            raise Overloaded(
                f"The server is full: {capacity.sequences} running, {self._max_waiting} queued.",
                retry_after=self.wait(),
            )
        reservation = Reservation(self)
        self._admitted.add(reservation)
        return reservation

    def take(self, reservation: Reservation, prompt_tokens: int, max_tokens: int, capacity: Capacity) -> None:
        expected = self._lengths.expected(max_tokens)
        needed = prompt_tokens + expected
        bound = capacity.kv_tokens * KV_OVERBOOKING
        if self._kv_tokens + needed > bound:
            raise Overloaded(
                f"The server is full: {self._kv_tokens} of {bound} tokens are reserved, this request needs {needed}.",
                retry_after=self.wait(),
            )
        self._kv_tokens += needed
        reservation.kv_tokens, reservation.outstanding = needed, expected

    def release(self, reservation: Reservation) -> None:
        self._admitted.discard(reservation)
        if reservation.generated:
            self._lengths.count(reservation.generated)
        self._kv_tokens -= reservation.kv_tokens

    def wait(self) -> float:
        """Seconds until a place is expected to be free: the mean of the outstanding tokens, at the measured rate."""
        outstanding = sum(reservation.outstanding for reservation in self._admitted)
        seconds = outstanding / self.rate.per_second() / max(1, len(self._admitted))
        return float(min(LONGEST_WAIT, max(SHORTEST_WAIT, math.ceil(seconds))))
