"""When each of the admitted requests is expected to start and to end.

A queue with places and KV memory, played through without a clock.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from heapq import heappop, heappush

from app.contract.engine import Capacity


@dataclass(frozen=True, slots=True)
class Work:
    """What a request still needs: `seconds` in a place, and at most `kv_tokens` of the KV cache meanwhile."""

    seconds: float
    kv_tokens: int


@dataclass(frozen=True, slots=True)
class Stay:
    """Seconds from now until a request starts and until it ends. The start of one that runs is 0."""

    start: float
    end: float


def stays(works: Iterable[Work], capacity: Capacity) -> Iterator[Stay]:
    """Each starts after the ones before it, as soon as a place and enough memory are free: the scheduler's rule."""
    running: list[tuple[float, int]] = []  # a heap of (end, KV tokens)
    now, used = 0.0, 0
    for work in works:
        while running and (len(running) >= capacity.sequences or used + work.kv_tokens > capacity.kv_tokens):
            now, freed = heappop(running)
            used -= freed
        stay = Stay(now, now + work.seconds)
        heappush(running, (stay.end, work.kv_tokens))
        used += work.kv_tokens
        yield stay
