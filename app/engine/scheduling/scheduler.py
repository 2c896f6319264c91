"""The pure scheduler: waiting and running sequences in, one decision out. No device, no clock, no thread.

First come, first served: a sequence is admitted when pages for its tokens so far are there, and a watermark of pages
stays for those that run. Running sequences take a page when their next token needs one. When none is left, unused
known pages go first (`kv/pages.py`); then the youngest sequence of the tenant that holds most pages is preempted: its
pages go, its tokens stay, and it is computed again when there is room. The oldest sequence is never preempted, and
each fits alone, so the oldest always makes progress.

Prompts are computed in chunks beside the tokens of those that decode, `chunk` tokens a step over all of them; where
nobody decodes nobody is stopped, and the chunk is ALONE times as large. See `prefill_shares.py` for who gets them.
"""

from collections import Counter, deque
from collections.abc import Iterator

from app.engine.kv.manager import KvManager
from app.engine.scheduling.prefill_shares import share_out
from app.engine.scheduling.sequence import Chunk, Decision, Sequence

ALONE = 4
"""Larger multiplications take less time per token, and a request that arrives meanwhile waits a little longer."""


SMALLEST_CHUNK = 16
"""Prompt tokens of a step that is as small as it can be."""


class Scheduler:
    """Not safe under threads: it belongs to the inference thread."""

    def __init__(self, kv: KvManager, *, max_sequences: int, chunk: int) -> None:
        self.kv = kv
        self.preemptions = 0  # since the start
        self._max_sequences = max_sequences
        self._chunk = chunk
        self._most_rows = max_sequences
        self._turn = 0
        self._waiting: deque[Sequence] = deque()
        self._running: dict[str, Sequence] = {}  # in the order of their admission

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def waits_for_memory(self) -> bool:
        """Whether the first of the queue lacks pages, and not a place."""
        return bool(self._waiting) and len(self._running) < self._max_sequences

    def __bool__(self) -> bool:
        """Whether there is work."""
        return bool(self._running or self._waiting)

    def sequences(self) -> Iterator[Sequence]:
        """The running ones, oldest first, then the waiting ones."""
        yield from list(self._running.values())
        yield from list(self._waiting)

    def running_sequences(self) -> list[Sequence]:
        """Oldest first."""
        return list(self._running.values())

    def add(self, sequence: Sequence) -> None:
        """Queue it. Raises ValueError for a sequence that could never be computed."""
        if not sequence.tokens or sequence.max_tokens < 1:
            raise ValueError("a sequence needs a prompt and room for a token")
        if sequence.longest > self.kv.tokens:
            raise ValueError("the sequence is longer than the KV cache")
        self._waiting.append(sequence)

    def remove(self, sequence: Sequence, *, keep: bool) -> None:
        """It is over, for whatever reason; its full pages stay known if `keep`."""
        if self._running.pop(sequence.id, None) is None:
            self._waiting.remove(sequence)
        self.kv.release(sequence, keep=keep)

    def decide(self) -> Decision | None:
        """The next step, or None when there is nothing to compute. Call `advance` once it was computed.

        Asked again without `advance`, it decides anew from the same state: a step that failed is replayed.
        """
        self._grow()
        self._admit()
        if not self._running:
            return None
        decoding = [sequence for sequence in self._running.values() if sequence.pending == 1]
        decode = tuple(Chunk(sequence, sequence.computed, 1) for sequence in self._rows_of(decoding))
        return Decision(decode, tuple(self._prefill(self._chunk if decode else ALONE * self._chunk)))

    def advance(self, decision: Decision) -> None:
        """The decision's forward pass is done: its tokens have their keys and values."""
        for chunk in (*decision.decode, *decision.prefill):
            chunk.sequence.computed = chunk.start + chunk.length
            self.kv.note_computed(chunk.sequence)
        self._turn += len(decision.decode)

    def make_steps_smaller(self) -> bool:
        """For a device without memory for steps of this size: first fewer prompt tokens, then fewer rows.

        For good: the memory for larger steps is not there. False when they are as small as they can be.
        """
        if self._chunk > SMALLEST_CHUNK:
            self._chunk = max(SMALLEST_CHUNK, self._chunk // 2)
        elif self._most_rows > 1:
            self._most_rows //= 2
        else:
            return False
        return True

    def limits(self) -> dict[str, int]:
        """How large a step may be, for the log."""
        return {"prompt_tokens": self._chunk, "sequences": self._most_rows}

    def _rows_of(self, decoding: list[Sequence]) -> list[Sequence]:
        """Those that decode in this step: all of them, or where steps were made smaller, in turn."""
        if len(decoding) <= self._most_rows:
            return decoding
        first = self._turn % len(decoding)
        return [*decoding[first:], *decoding[:first]][: self._most_rows]

    def _grow(self) -> None:
        """Room for every decoding sequence's next token, the oldest first."""
        for sequence in list(self._running.values()):
            while sequence.id in self._running and not self.kv.grow(sequence, len(sequence.tokens)):
                self._preempt(self._victim())

    def _victim(self) -> Sequence:
        """The youngest of the tenant that holds most pages; never the oldest of all."""
        _, *others = self._running.values()
        held: Counter[str] = Counter()
        for sequence in self._running.values():
            held[sequence.tenant] += len(sequence.pages)
        heaviest = max((sequence.tenant for sequence in others), key=held.__getitem__)
        return [sequence for sequence in others if sequence.tenant == heaviest][-1]

    def _preempt(self, sequence: Sequence) -> None:
        """Its full pages stay known until somebody needs them, so it may find some of them again."""
        del self._running[sequence.id]
        self.kv.release(sequence, keep=True)
        sequence.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(sequence)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            # One page for each that runs: without the watermark what is admitted now would be preempted at once.
            if not self.kv.fits(self._waiting[0], spare=len(self._running)):
                break
            sequence = self._waiting.popleft()
            if not self.kv.admit(sequence):
                raise RuntimeError(f"sequence {sequence.id} fits and gets no pages")
            self._running[sequence.id] = sequence

    def _prefill(self, budget: int) -> Iterator[Chunk]:
        pending = [sequence for sequence in self._running.values() if sequence.pending > 1]
        for sequence in pending:
            self.kv.take_over(sequence)
        for sequence, length in share_out(pending, budget):
            yield Chunk(sequence, sequence.computed, length)
