"""The pure scheduler: waiting and running sequences in, one decision out. No device, no clock, no thread.

First come, first served. Every running sequence with one pending token decodes in every step; prompts are
computed in chunks beside it, `chunk` tokens per step over all of them, so that a long prompt never stops the
others for longer than one chunk. Where nobody decodes, nobody is stopped: the chunk is then ALONE times as large.
A sequence is admitted only when a slot for its whole length is free, so a running one is never preempted, and since
each fits alone, the first of the queue always gets its turn.
"""

from collections import deque
from collections.abc import Iterator

from app.engine.scheduling.sequence import Chunk, Copy, Decision, Sequence
from app.engine.scheduling.shelves import Shelves

ALONE = 4
"""Larger multiplications take less time per token, and a request that arrives meanwhile waits a little longer."""


class Scheduler:
    """Not safe under threads: it belongs to the inference thread."""

    def __init__(self, shelves: Shelves, *, max_sequences: int, chunk: int) -> None:
        self.shelves = shelves
        self._max_sequences = max_sequences
        self._chunk = chunk
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self._running or self._waiting)

    def sequences(self) -> Iterator[Sequence]:
        """The running ones, oldest first, then the waiting ones."""
        yield from list(self._running.values())
        yield from list(self._waiting)

    def add(self, sequence: Sequence) -> None:
        """Queue it. Raises ValueError for a sequence that could never be admitted."""
        if not sequence.tokens or sequence.max_tokens < 1:
            raise ValueError("a sequence needs a prompt and room for a token")
        if sequence.longest > min(self.shelves.kv_tokens, self.shelves.context):
            raise ValueError("the sequence is longer than the KV cache or the context")
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence, *, keep: bool) -> None:
        """It is over, for whatever reason; its slot becomes a cached prefix if `keep`."""
        if self._running.pop(sequence.id, None) is None:
            self._waiting.remove(sequence)
            return
        self.shelves.release(sequence, keep=keep)

    def decide(self) -> Decision | None:
        """The next step, or None when there is nothing to compute. Call `advance` once it was computed."""
        copies = self._admit()
        if not self._running:
            return None
        extents = self.shelves.extents()  # before packing: a copy may start where packing then cuts off
        copies += self.shelves.pack()
        decode = [Chunk(s, s.computed, 1) for s in self._running.values() if s.pending == 1]
        decode.sort(key=lambda chunk: chunk.sequence.placed)
        budget = self._chunk if decode else ALONE * self._chunk
        return Decision(extents, tuple(copies), tuple(decode), tuple(self._prefill(budget)))

    def advance(self, decision: Decision) -> None:
        """The decision's forward pass is done: its tokens have their keys and values."""
        for chunk in (*decision.decode, *decision.prefill):
            chunk.sequence.computed = chunk.start + chunk.length

    def _admit(self) -> list[Copy]:
        copies: list[Copy] = []
        while self._waiting and len(self._running) < self._max_sequences:
            placed = self.shelves.place(self._waiting[0])
            if placed is None:
                break
            copies += placed
            sequence = self._waiting.popleft()
            self._running[sequence.id] = sequence
        return copies

    def _prefill(self, left: int) -> Iterator[Chunk]:
        """Of the sequences in the order of their admission, `left` tokens in all."""
        for sequence in self._running.values():
            if sequence.pending > 1 and left > 0:
                length = min(sequence.pending, left)
                left -= length
                yield Chunk(sequence, sequence.computed, length)
