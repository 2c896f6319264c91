"""The scheduler decides each step from the waiting and running sequences. It uses no device, clock or thread.

First come, first served: a sequence is admitted when there are pages for its tokens so far, and some more (the
watermark) for those that run. Running sequences take a page when their next token needs one. When none is free,
cached pages are evicted (`kv/pages.py`); then the youngest sequence of the tenant with most pages is preempted: its
pages are freed, its tokens stay, and it is computed again later. The oldest sequence is never preempted, and each
fits alone, so the oldest always makes progress.

Prompts are computed in chunks, together `chunk` tokens per step, beside the tokens of the sequences that decode.
While no sequence decodes, the chunk is ALONE times as large. `prefill_shares.py` divides it among the sequences.
"""

from collections import Counter, deque
from collections.abc import Iterator

from app.engine.kv.manager import KvManager
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, PageCopy, SequenceChunk
from app.engine.scheduling.prefill_shares import share_out

ALONE = 4
"""Larger multiplications take less time per token; a request that arrives meanwhile waits a little longer."""

SMALLEST_CHUNK = 16
"""Prompt tokens of the smallest step."""

LARGER_AFTER = 1000
"""Steps after which smaller steps grow again: memory may have been short for a moment only, and where it still is,
one step in a thousand is computed twice."""


class Scheduler:
    """Not safe under threads: for the inference thread only."""

    def __init__(self, kv: KvManager, *, max_sequences: int, chunk: int) -> None:
        self.kv = kv
        self.preemptions = 0  # since the start
        self._max_sequences = max_sequences
        self._largest_chunk = self._chunk = chunk
        self._most_rows = max_sequences
        self._steps_that_fit = 0
        self._turn = 0
        self._waiting: deque[TokenSequence] = deque()
        self._running: dict[str, TokenSequence] = {}  # in the order of their admission

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def waits_for_memory(self) -> bool:
        """Whether the first waiting sequence waits for pages, and not for a place."""
        return bool(self._waiting) and len(self._running) < self._max_sequences

    def add(self, sequence: TokenSequence) -> None:
        """Queue it. Raises ValueError for one that could never be computed; clients see the message."""
        if not sequence.tokens or sequence.max_tokens < 1:
            raise ValueError("its prompt is empty, or it asks for no new token")
        if sequence.longest > self.kv.tokens:
            raise ValueError(f"it may have {sequence.longest} tokens, and the KV cache holds {self.kv.tokens}")
        self._waiting.append(sequence)

    def remove(self, sequence: TokenSequence, *, keep: bool) -> None:
        """The sequence has ended. Its full pages stay known if `keep`."""
        if self._running.pop(sequence.id, None) is None:
            self._waiting.remove(sequence)
        self.kv.release(sequence, keep=keep)

    def decide(self) -> Decision | None:
        """The next step, or None when there is nothing to compute. Call `advance` once it was computed.

        Without `advance` the next call decides from the same state: a failed step is repeated.
        """
        self._grow()
        self._admit()
        if not self._running:
            return None
        decoding = [sequence for sequence in self._running.values() if sequence.pending == 1]
        decode = tuple(SequenceChunk(sequence, sequence.computed, 1) for sequence in self._rows_of(decoding))
        prefill = tuple(self._prefill(self._chunk if decode else ALONE * self._chunk))
        return Decision(decode, prefill, tuple(self._copies()))

    def advance(self, decision: Decision) -> None:
        """The decision's forward pass is done: its tokens have their keys and values."""
        for chunk in (*decision.decode, *decision.prefill):
            chunk.sequence.computed = chunk.start + chunk.length
            self.kv.note_computed(chunk.sequence)
        for sequence in self._running.values():
            self.kv.note_copied(sequence)
        self._turn += len(decision.decode)
        self._make_steps_larger()

    def make_steps_smaller(self) -> bool:
        """When a device has too little memory for steps of this size: first fewer prompt tokens, then fewer rows.

        False when they are the smallest already. `advance` makes them larger again.
        """
        self._steps_that_fit = 0
        if self._chunk > SMALLEST_CHUNK:
            self._chunk = max(SMALLEST_CHUNK, self._chunk // 2)
        elif self._most_rows > 1:
            self._most_rows //= 2
        else:
            return False
        return True

    def _make_steps_larger(self) -> None:
        """Twice as large after LARGER_AFTER steps without an error, up to their first size: first more rows."""
        self._steps_that_fit += 1
        if self._steps_that_fit % LARGER_AFTER:
            return
        if self._most_rows < self._max_sequences:
            self._most_rows = min(self._max_sequences, 2 * self._most_rows)
        else:
            self._chunk = min(self._largest_chunk, 2 * self._chunk)

    def limits(self) -> dict[str, int]:
        """The largest step, for the log."""
        return {"prompt_tokens": self._chunk, "sequences": self._most_rows}

    def _rows_of(self, decoding: list[TokenSequence]) -> list[TokenSequence]:
        """The sequences that decode in this step: all, or, after steps were made smaller, some in turn."""
        if len(decoding) <= self._most_rows:
            return decoding
        first = self._turn % len(decoding)
        return [*decoding[first:], *decoding[:first]][: self._most_rows]

    def _grow(self) -> None:
        """Pages for every running sequence's tokens, the oldest first."""
        for sequence in list(self._running.values()):
            while sequence.id in self._running and not self.kv.grow(sequence, len(sequence.tokens)):
                self._preempt(self._victim())

    def _victim(self) -> TokenSequence:
        """The youngest sequence of the tenant with most pages, but never the oldest of all."""
        _, *others = self._running.values()
        held: Counter[str] = Counter()
        for sequence in self._running.values():
            held[sequence.tenant] += len(sequence.pages)
        heaviest = max((sequence.tenant for sequence in others), key=held.__getitem__)
        return [sequence for sequence in others if sequence.tenant == heaviest][-1]

    def _preempt(self, sequence: TokenSequence) -> None:
        """Its full pages stay known until they are evicted, so it may find some of them again."""
        del self._running[sequence.id]
        self.kv.release(sequence, keep=True)
        sequence.preemptions += 1
        self.preemptions += 1
        self._waiting.appendleft(sequence)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self._max_sequences:
            # The watermark is one page per running sequence: without it a new sequence would be preempted at once.
            if not self.kv.admit(self._waiting[0], spare=len(self._running)):
                break
            sequence = self._waiting.popleft()
            self._running[sequence.id] = sequence

    def _prefill(self, budget: int) -> Iterator[SequenceChunk]:
        pending = [sequence for sequence in self._running.values() if sequence.pending > 1]
        for sequence in pending:
            self.kv.take_over(sequence)
        for sequence, length in share_out(pending, budget):
            yield SequenceChunk(sequence, sequence.computed, length)

    def _copies(self) -> Iterator[PageCopy]:
        for sequence in self._running.values():
            if sequence.source is not None:
                yield PageCopy(sequence.source.page, sequence.pages[len(sequence.known)])
