"""When each of the admitted requests is expected to start and to end.

A queue with places and KV memory, played through without a clock, by the scheduler's rule: tenants take turns, first
those that keep within their shares, then the others while they fit, and nobody overtakes. The play begins with all of
them waiting, so it needs no preemption: who runs is who the rule would let run.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from app.contract.engine import Capacity
from app.fair_queue import FairQueue


@dataclass(frozen=True, slots=True)
class Work:
    """What a request still needs: `seconds` in a place, and at most `kv_tokens` of the KV cache meanwhile."""

    seconds: float
    kv_tokens: int
    tenant: str


@dataclass(frozen=True, slots=True)
class Stay:
    """Seconds from now until a request starts and until it ends. The start of one that runs is 0."""

    start: float
    end: float


def stays(works: Sequence[Work], capacity: Capacity) -> list[Stay]:
    """Those of the works, which are in the order of their arrival."""
    play = _Play(works, capacity)
    while play.waiting:
        if not play.start_next():
            play.end_one()
    return [play.stays[number] for number in range(len(works))]


class _Play:
    """Works by their number."""

    def __init__(self, works: Sequence[Work], capacity: Capacity) -> None:
        self.stays: dict[int, Stay] = {}
        self._left = Counter(work.tenant for work in works)  # of each tenant, those that wait or run
        self.waiting: FairQueue[int] = FairQueue()
        for number, work in enumerate(works):
            self.waiting.add(work.tenant, number)
        self._works = works
        self._capacity = capacity
        self._running: list[tuple[float, int]] = []  # a heap of (end, number)
        self._now = 0.0
        self._places: Counter[str] = Counter()
        self._tokens: Counter[str] = Counter()
        self._all_tokens = 0

    def start_next(self) -> bool:
        number = self.waiting.next(lambda first: self._entitled(self._works[first]))
        if number is None:
            number = self.waiting.next()
        if number is None or not self._fits(self._works[number]):
            return False
        work = self._works[self.waiting.take(self._works[number].tenant)]
        self.stays[number] = Stay(self._now, self._now + work.seconds)
        heappush(self._running, (self._now + work.seconds, number))
        self._places[work.tenant] += 1
        self._tokens[work.tenant] += work.kv_tokens
        self._all_tokens += work.kv_tokens
        return True

    def end_one(self) -> None:
        self._now, number = heappop(self._running)
        work = self._works[number]
        self._places[work.tenant] -= 1
        self._tokens[work.tenant] -= work.kv_tokens
        self._all_tokens -= work.kv_tokens
        self._left[work.tenant] -= 1
        if not self._left[work.tenant]:
            del self._left[work.tenant]

    def _entitled(self, work: Work) -> bool:
        """As `app.engine.scheduling.shares`."""
        own, tenants = self._places[work.tenant], len(self._left)
        tokens = self._tokens[work.tenant] + work.kv_tokens
        within = own < self._capacity.sequences // tenants and tokens <= self._capacity.kv_tokens // tenants
        return own == 0 or within

    def _fits(self, work: Work) -> bool:
        """One that is larger than the memory starts alone."""
        tokens = self._all_tokens + work.kv_tokens
        return not self._running or (
            len(self._running) < self._capacity.sequences and tokens <= self._capacity.kv_tokens
        )
