"""Keeps each sequence's block table, the list of its pages. No tensors.

Page i of a sequence's table holds its tokens i * size to (i + 1) * size - 1. The first `len(known)` pages are known
and may be shared; those after them are the sequence's own, and the last one may be partly filled.
"""

from collections.abc import Sequence

from app.engine.kv.pages import KnownPage, PagePool
from app.engine.kv.sequence import TokenSequence


class KvManager:
    """Gives pages to sequences and takes them back."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool

    @property
    def tokens(self) -> int:
        """The most tokens that all pages hold."""
        return self.pool.count * self.pool.size

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.pool.size)

    def admit(self, sequence: TokenSequence, spare: int) -> bool:
        """Give a waiting sequence pages for all its tokens, known ones first.

        False, without a change, when there are too few for it and `spare` more.
        """
        known = self._continue(sequence.tokens, sequence.tenant, None, 0)
        cached = sum(page.holders == 0 for page in known)  # once held they are no longer available
        if self.pages_for(len(sequence.tokens)) - len(known) + spare > self.pool.available - cached:
            return False
        self._use(sequence, known)
        return self.grow(sequence, len(sequence.tokens))

    def take_over(self, sequence: TokenSequence) -> None:
        """Use known pages for the next tokens, which another sequence has computed since this one was admitted."""
        if sequence.computed == len(sequence.known) * self.pool.size:
            after = sequence.known[-1] if sequence.known else None
            self._use(sequence, self._continue(sequence.tokens, sequence.tenant, after, sequence.computed))

    def _use(self, sequence: TokenSequence, found: list[KnownPage]) -> None:
        """Let these known pages hold its next tokens."""
        for known in found:
            self.pool.hold(known)
            index = len(sequence.known)
            if index < len(sequence.pages):
                self.pool.give_back(sequence.pages[index])
                sequence.pages[index] = known.page
            else:
                sequence.pages.append(known.page)
            sequence.known.append(known)
        saved = len(found) * self.pool.size
        sequence.computed += saved
        if not sequence.preemptions:  # later it finds what it computed itself
            sequence.cached += saved

    def grow(self, sequence: TokenSequence, tokens: int) -> bool:
        """Give it pages for its first `tokens` tokens. False when there are too few; it keeps those that it got."""
        while len(sequence.pages) < self.pages_for(tokens):
            page = self.pool.take()
            if page is None:
                return False
            sequence.pages.append(page)
        return True

    def note_computed(self, sequence: TokenSequence) -> None:
        """Register its newly filled pages as known."""
        size = self.pool.size
        for index in range(len(sequence.known), sequence.computed // size):
            text = tuple(sequence.tokens[index * size : (index + 1) * size])
            after = sequence.known[-1] if sequence.known else None
            known = self.pool.learn(sequence.pages[index], text, sequence.tenant, after)
            sequence.pages[index] = known.page
            sequence.known.append(known)

    def release(self, sequence: TokenSequence, *, keep: bool) -> None:
        """Take all its pages back. Without `keep` no other sequence will use them: their contents may be wrong."""
        for page in sequence.pages[len(sequence.known) :]:
            self.pool.give_back(page)
        for known in reversed(sequence.known):
            if not keep and known.holders == 1:
                self.pool.forget(known)
            self.pool.let_go(known)
        sequence.pages.clear()
        sequence.known.clear()
        sequence.computed = 0

    def _continue(self, tokens: Sequence[int], tenant: str, after: KnownPage | None, start: int) -> list[KnownPage]:
        """The known pages that hold the tokens from `start` on, but never the last one: its row gives the next."""
        found: list[KnownPage] = []
        while start + self.pool.size < len(tokens):
            known = self.pool.find(tokens, tenant, after, start)
            if known is None:
                break
            found.append(known)
            after, start = known, start + self.pool.size
        return found
