"""The scheduler decides each step from the waiting and running sequences. It uses no device, clock or thread.

A sequence is admitted when there are pages for its tokens so far, and some more (the watermark) for those that run.
Tenants take turns (`app/fair_queue.py`); within one it is first come, first served. First those are admitted that
keep their tenant within its share (`shares.py`), and for them sequences beyond the shares of others are preempted;
then the others, while they fit. The first that does not fit ends it: nobody overtakes.

Running sequences take a page when their next token needs one. When none is free, cached pages are evicted
(`kv/pages.py`); then the youngest sequence of the tenant with most pages is preempted: its pages are freed, its
tokens stay, and it is computed again later. The one that came first of all that run is never preempted, and each fits
alone, so it always makes progress; and in its time each becomes the first.

The bounds are in docs/decisions/0106-shares.md.

A sequence whose next page another one computes right now is admitted without pages, and follows that one until it has
what both begin with (`followers.py`).

Prompts are computed in chunks, together `chunk` tokens per step, beside the tokens of the sequences that decode.
While no sequence decodes, the chunk is ALONE times as large. `prefill_shares.py` divides it among the sequences.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from typing import Literal, get_args

from app.engine.kv.manager import KvManager
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, PageCopy, SequenceChunk
from app.engine.scheduling.followers import Followers, following, own_pages
from app.engine.scheduling.prefill_shares import PrefillShares
from app.engine.scheduling.shares import Shares, by_tenant
from app.fair_queue import FairQueue

ALONE = 4
"""Larger multiplications take less time per token; a request that arrives meanwhile waits a little longer."""

SMALLEST_CHUNK = 16
"""Prompt tokens of the smallest step."""

LARGER_AFTER = 1000
"""Steps after which smaller steps grow again: memory may have been short for a moment only, and where it still is,
one step in a thousand is computed twice."""


Cause = Literal["growth", "page_share", "place_share"]
"""Of a preemption: `app.contract.telemetry.Preemptions` says what they are."""


class Scheduler:
    """Not safe under threads: for the inference thread only."""

    def __init__(self, kv: KvManager, *, max_sequences: int, chunk: int) -> None:
        self.kv = kv
        self.preemptions: dict[Cause, int] = dict.fromkeys(get_args(Cause), 0)  # since the start
        self._max_sequences = max_sequences
        self._largest_chunk = self._chunk = chunk
        self._most_rows = max_sequences
        self._steps_that_fit = 0
        self._turn = 0
        self._prefill_shares = PrefillShares()
        self._lacked_memory = False  # the last one that was not admitted
        self._sequences: dict[str, TokenSequence] = {}  # all, in the order of their arrival
        self._waiting: FairQueue[TokenSequence] = FairQueue()
        self._running: dict[str, TokenSequence] = {}  # in the order of their admission
        self._followers = Followers(kv.pool)

    @property
    def running(self) -> int:
        return len(self._running)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    @property
    def waits_for_memory(self) -> bool:
        """Whether the first waiting sequence was not admitted for want of pages, and not of a place."""
        return bool(self._waiting) and self._lacked_memory

    def add(self, sequence: TokenSequence) -> None:
        """Queue it. Raises ValueError for one that could never be computed; clients see the message."""
        if not sequence.tokens or sequence.max_tokens < 0:
            raise ValueError("its prompt is empty, or it asks for less than no new token")
        if sequence.longest > self.kv.tokens:
            raise ValueError(f"it may have {sequence.longest} tokens, and the KV cache holds {self.kv.tokens}")
        self._sequences[sequence.id] = sequence
        self._waiting.add(sequence.tenant, sequence)

    def remove(self, sequence: TokenSequence, *, keep: bool) -> None:
        """The sequence has ended. Its full pages stay known if `keep`."""
        del self._sequences[sequence.id]
        self._followers.drop(sequence)
        if self._running.pop(sequence.id, None) is None:
            self._waiting.remove(sequence.tenant, sequence)
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
        self._prefill_shares.advance()
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
        """Pages for the tokens of every running sequence that does not follow another, the oldest first."""
        for sequence in list(self._running.values()):
            if sequence.id in self._running and not self._follows(sequence):
                while sequence.id in self._running and not self._has_pages(sequence):
                    self._preempt(self._victim(), "growth")

    def _follows(self, sequence: TokenSequence) -> bool:
        """Whether it goes on without pages."""
        if sequence not in self._followers:
            return False
        before = list(takewhile(lambda each: each is not sequence, self._running.values()))
        return self._followers.goes_on(sequence, before)

    def _has_pages(self, sequence: TokenSequence) -> bool:
        """Give it pages for all its tokens, if there are enough."""
        return self.kv.grow(sequence, len(sequence.tokens)) if sequence.pages else self.kv.admit(sequence, spare=0)

    def _victim(self) -> TokenSequence:
        """The youngest sequence of the tenant with most pages, but never the one that came first of all."""
        running = by_tenant(self._running.values())
        first = next(sequence for sequence in self._sequences.values() if sequence.id in self._running)
        others = [own[-1] for own in running.values() if own[-1] is not first]
        return max(others, key=lambda youngest: self.kv.held(youngest.tenant))

    def _preempt(self, sequence: TokenSequence, cause: Cause) -> None:
        """Its full pages stay known until they are evicted, so it may find some of them again."""
        del self._running[sequence.id]
        self._followers.drop(sequence)
        if sequence.pages:  # a follower only waits again: nothing of it was computed
            sequence.progress.preemptions += 1
            self.preemptions[cause] += 1
        self.kv.release(sequence, keep=True)
        self._waiting.put_back(sequence.tenant, sequence)

    def _admit(self) -> None:
        self._lacked_memory = False
        while self._waiting:
            shares = self._shares()
            entitled = self._entitled(shares) if shares else None
            sequence = entitled or self._waiting.next()
            if sequence is None or not self._start(sequence, shares if entitled else None):
                self._lacked_memory = not self._full
                return

    def _shares(self) -> Shares | None:
        """None for a tenant alone, which has everything."""
        tenants = len({sequence.tenant for sequence in self._sequences.values()})
        return Shares.of(self._max_sequences, self.kv.pool.count, tenants) if tenants > 1 else None

    def _entitled(self, shares: Shares) -> TokenSequence | None:
        """The first in turn that keeps its tenant within its share."""
        running = by_tenant(self._running.values())

        def fits_its_share(sequence: TokenSequence) -> bool:
            pages = self._held(sequence.tenant) + self.kv.pages_for(len(sequence.tokens)) + len(self._running)
            return shares.has_room(len(running.get(sequence.tenant, ())), pages)

        return self._waiting.next(fits_its_share)

    def _start(self, sequence: TokenSequence, shares: Shares | None) -> bool:
        """Admit it if it fits, with `shares` at the cost of sequences beyond them, but only if that is enough."""
        fits = self._fits(sequence)
        if not fits and shares is not None and self._would_fit(sequence, shares):
            while not fits and (victim := self._beyond(shares)) is not None:
                self._preempt(victim, "place_share" if self._full else "page_share")
                fits = self._fits(sequence)
        if not fits:
            return False
        self._running[sequence.id] = self._waiting.take(sequence.tenant)
        return True

    def _would_fit(self, sequence: TokenSequence, shares: Shares) -> bool:
        """Whether it fits once everything beyond the others' shares is preempted. Preempts nothing."""
        running, lacking = dict(self._running), self.kv.lacking(sequence) + self._followers.promised()
        holders = Counter(page for each in running.values() for page in each.pages)
        freed = Counter[str]()  # pages of each tenant
        while len(running) >= self._max_sequences or lacking + len(running) > sum(freed.values()):
            full = len(running) >= self._max_sequences
            victim = (
                shares.beyond_places(running.values())
                if full
                else shares.beyond_pages(running.values(), lambda tenant: self._held(tenant) - freed[tenant])
            )
            if victim is None:
                return False
            del running[victim.id]
            holders.subtract(victim.pages)
            freed[victim.tenant] += sum(holders[page] == 0 for page in victim.pages) + self._followers.own(victim)
        return True

    def _fits(self, sequence: TokenSequence) -> bool:
        """Whether there is a place, and pages, which it then has, or which are there for it if it follows another."""
        # The watermark is one page per running sequence: without it a new sequence would be preempted at once.
        spare = len(self._running) + self._followers.promised()
        if self._full or self.kv.pool.available <= spare:
            return False
        found = following(sequence, self._running.values(), self.kv.pool)
        if found is None:
            return self.kv.admit(sequence, spare)
        if self.kv.pool.available < spare + own_pages(sequence, found, self.kv.pool.size):
            return False
        self._followers.add(sequence, found)
        return True

    def _held(self, tenant: str) -> int:
        """Pages that the tenant's sequences hold, or will as soon as they follow nobody."""
        return self.kv.held(tenant) + self._followers.promised(tenant)

    @property
    def _full(self) -> bool:
        return len(self._running) >= self._max_sequences

    def _beyond(self, shares: Shares) -> TokenSequence | None:
        running = self._running.values()
        return shares.beyond_places(running) if self._full else shares.beyond_pages(running, self._held)

    def _prefill(self, budget: int) -> Iterator[SequenceChunk]:
        pending = [each for each in self._running.values() if each.pending > 1 and each not in self._followers]
        for sequence in pending:
            self.kv.take_over(sequence)
        for sequence, length in self._prefill_shares.share_out(pending, budget, self._followers.remaining()):
            yield SequenceChunk(sequence, sequence.computed, length)

    def _copies(self) -> Iterator[PageCopy]:
        for sequence in self._running.values():
            if sequence.source is not None:
                yield PageCopy(sequence.source.page, sequence.pages[len(sequence.known)])
