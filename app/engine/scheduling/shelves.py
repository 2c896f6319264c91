"""Who lies where in the KV cache: pure bookkeeping of slots, cached prefixes and their eviction.

A shelf holds slots of one capacity, a power of two, so a short sequence is never padded to the longest one in
the house, and a slot never has to grow. The running sequences of a shelf are kept close together: attention reads the
window that they form as a view, without gathering.

A finished sequence's slot stays as a cached prefix until its room is needed; the least recently used goes first.
"""

from collections.abc import Iterator
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from typing import cast

from app.engine.scheduling.compaction import next_move
from app.engine.scheduling.sequence import Copy, Sequence, Slot

SMALLEST = 256
"""Tokens of the smallest slot: below this, fewer and denser shelves beat less padding."""

MIN_REUSE = 8
"""A shorter common prefix costs more in bookkeeping than its prefill."""


@dataclass(slots=True)
class Prefix:
    """A finished sequence's keys and values, kept."""

    tokens: list[int]
    tenant: str
    used: int  # the clock of its last use


Place = Sequence | Prefix | None


@dataclass(slots=True)
class Match:
    """The cached or running sequence with the longest common prefix."""

    slot: Slot
    length: int
    owner: Sequence | Prefix


def common_prefix(a: Tokens[int], b: Tokens[int]) -> int:
    """The number of leading tokens that two lists share. Halving on slices, so that lists compare in C."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


@dataclass(slots=True)
class Shelves:
    """The slots of a cache that holds `kv_tokens` tokens."""

    kv_tokens: int
    context: int
    share_prefixes: bool = False
    _shelves: dict[int, list[Place]] = field(default_factory=dict)
    _clock: int = 0

    def capacity_for(self, tokens: int) -> int:
        """The slot size for a sequence of so many tokens."""
        size = SMALLEST
        while size < tokens:
            size *= 2
        return max(tokens, min(size, self.context, self.kv_tokens))

    @property
    def used(self) -> int:
        """Tokens of room that running sequences hold."""
        return sum(slot.capacity for slot, place in self._places() if isinstance(place, Sequence))

    def extents(self) -> dict[int, int]:
        """Slots that each shelf must have room for, by capacity."""
        return {capacity: len(places) for capacity, places in self._shelves.items()}

    def place(self, sequence: Sequence) -> list[Copy] | None:
        """Give the sequence a slot, with the longest prefix that is known already; None when there is no room.

        The copies must run before the next forward pass. Sets `slot`, `computed` and `cached`.
        """
        capacity = self.capacity_for(sequence.longest)
        match = self._longest_match(sequence)
        if match is not None and self._takes_over(match, capacity):
            self._shelves[capacity][match.slot.index] = sequence
            self._settle(sequence, match.slot, match.length)
            return []
        # At last the match itself may be evicted: its numbers lie there until the copy, which runs first.
        slot = self._make_room(capacity, keep=match) or self._make_room(capacity, keep=None)
        if slot is None:
            return None
        self._shelves[capacity][slot.index] = sequence
        self._settle(sequence, slot, match.length if match else 0)
        if match is None:
            return []
        if isinstance(match.owner, Prefix):
            match.owner.used = self._tick()
        return [Copy(match.slot, slot, match.length)]

    def release(self, sequence: Sequence, *, keep: bool) -> None:
        """The sequence is over. Its computed tokens stay as a cached prefix if `keep`."""
        if sequence.slot is None:
            return
        places = self._shelves[sequence.slot.capacity]
        cached = keep and sequence.computed >= MIN_REUSE
        places[sequence.slot.index] = (
            Prefix(sequence.tokens[: sequence.computed], sequence.tenant, self._tick()) if cached else None
        )
        sequence.slot = None
        self._trim(places)

    def forget_prefixes(self) -> None:
        for slot, place in list(self._places()):
            if isinstance(place, Prefix):
                self._shelves[slot.capacity][slot.index] = None
        for places in self._shelves.values():
            self._trim(places)

    def pack(self) -> list[Copy]:
        """At most one move for each shelf: see `app.engine.scheduling.compaction`."""
        copies = []
        for capacity, places in self._shelves.items():
            running = [index for index, place in enumerate(places) if isinstance(place, Sequence)]
            empty = [index for index, place in enumerate(places) if place is None]
            move = next_move(running, empty)
            if move is not None:
                copies.append(self._move(Slot(capacity, move[0]), Slot(capacity, move[1])))
        return copies

    def _move(self, source: Slot, target: Slot) -> Copy:
        """Move a running sequence; a prefix that lies at the target changes places with it."""
        places = self._shelves[source.capacity]
        sequence, other = cast("Sequence", places[source.index]), cast("Prefix | None", places[target.index])
        places[target.index], places[source.index] = sequence, other
        sequence.slot = target
        self._trim(places)
        return Copy(source, target, max(sequence.computed, len(other.tokens) if other else 0), swap=other is not None)

    def _longest_match(self, sequence: Sequence) -> Match | None:
        best: Match | None = None
        for slot, place in self._places():
            if place is None or not (self.share_prefixes or place.tenant == sequence.tenant):
                continue
            known = place.tokens if isinstance(place, Prefix) else place.tokens[: place.computed]
            # The last prompt token is always computed: its row gives the first new token.
            length = min(common_prefix(known, sequence.tokens), len(sequence.tokens) - 1)
            if length >= MIN_REUSE and (best is None or length > best.length):
                best = Match(slot, length, place)
        return best

    def _takes_over(self, match: Match, capacity: int) -> bool:
        """Whether the sequence may continue in the matched slot itself: nobody else would miss what it cuts off."""
        if not isinstance(match.owner, Prefix) or match.slot.capacity != capacity:
            return False
        return len(match.owner.tokens) - match.length < MIN_REUSE or not self._has_room(capacity)

    def _make_room(self, capacity: int, keep: Match | None) -> Slot | None:
        """A free slot, evicting the least recently used prefixes if it must, but not the one in `keep`."""
        while not self._has_room(capacity):
            prefixes = [
                (place.used, slot)
                for slot, place in self._places()
                if isinstance(place, Prefix) and (keep is None or slot != keep.slot)
            ]
            if not prefixes:
                return None
            victim = min(prefixes)[1]
            places = self._shelves[victim.capacity]
            places[victim.index] = None
            self._trim(places)
        places = self._shelves.setdefault(capacity, [])
        if None not in places:
            places.append(None)
        return Slot(capacity, places.index(None))

    def _has_room(self, capacity: int) -> bool:
        """Counts what the buffers really hold: a hole below a slot in use is room of its own shelf only."""
        if None in self._shelves.get(capacity, ()):
            return True
        held = sum(size * len(places) for size, places in self._shelves.items())
        return held + capacity <= self.kv_tokens

    def _settle(self, sequence: Sequence, slot: Slot, length: int) -> None:
        sequence.slot, sequence.computed, sequence.cached = slot, length, length

    def _places(self) -> Iterator[tuple[Slot, Place]]:
        for capacity, places in self._shelves.items():
            for index, place in enumerate(places):
                yield Slot(capacity, index), place

    def _tick(self) -> int:
        self._clock += 1
        return self._clock

    @staticmethod
    def _trim(places: list[Place]) -> None:
        while places and places[-1] is None:
            places.pop()
