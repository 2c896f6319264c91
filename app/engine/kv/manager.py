"""Keeps each sequence's block table, the list of its pages. No tensors.

Page i of a sequence's table holds its tokens i * size to (i + 1) * size - 1. The first `len(known)` pages are known
and may be shared; those after them are the sequence's own. The first of these may begin as a copy of a known page
whose first tokens are the same, and the last one may be partly filled.

A sequence whose prompt's rows are wanted (`unscored`) computes them all, and uses no known page for them.
"""

from collections.abc import Sequence

from app.engine.kv.held_pages import HeldPages
from app.engine.kv.known_pages import KnownPage
from app.engine.kv.pages import PagePool
from app.engine.kv.sequence import TokenSequence


class KvManager:
    """Gives pages to sequences and takes them back."""

    def __init__(self, pool: PagePool) -> None:
        self.pool = pool
        self._held = HeldPages()

    @property
    def tokens(self) -> int:
        """The most tokens that all pages hold."""
        return self.pool.count * self.pool.size

    def held(self, tenant: str) -> int:
        """Pages that the tenant's sequences hold; those that they share count once."""
        return self._held.count(tenant)

    def pages_for(self, tokens: int) -> int:
        return -(-tokens // self.pool.size)

    def admit(self, sequence: TokenSequence, spare: int) -> bool:
        """Give a waiting sequence pages for all its tokens, known ones first.

        False, without a change, when there are too few for it and `spare` more.
        """
        if self.pool.available <= spare:  # one page is always its own: no need to look for known ones
            return False
        known = self._found(sequence)
        left = -self._lacking(sequence, known) - spare
        if left < 0:
            return False
        self._use(sequence, known)
        self._begin_as_copy(sequence, spare=left)
        return self.grow(sequence, len(sequence.tokens))

    def lacking(self, sequence: TokenSequence) -> int:
        """Pages that a waiting sequence needs and that there are not; below 0 where there are more."""
        return self._lacking(sequence, self._found(sequence))

    def _found(self, sequence: TokenSequence) -> list[KnownPage]:
        """The known pages that a waiting sequence can use."""
        return [] if sequence.unscored else self._continue(sequence.tokens, sequence.tenant, None, 0)

    def _lacking(self, sequence: TokenSequence, known: list[KnownPage]) -> int:
        available = self.pool.available - sum(page.holders == 0 for page in known)  # once held they are not
        return self.pages_for(len(sequence.tokens)) - len(known) - available

    def take_over(self, sequence: TokenSequence) -> None:
        """Use known pages for the next tokens, which another sequence has computed since this one was admitted."""
        if sequence.unscored:
            return
        if sequence.computed == len(sequence.known) * self.pool.size:
            after = sequence.known[-1] if sequence.known else None
            self._use(sequence, self._continue(sequence.tokens, sequence.tenant, after, sequence.computed))
            self._begin_as_copy(sequence, spare=self.pool.available)

    def note_copied(self, sequence: TokenSequence) -> None:
        """The step that begins with its copy was computed."""
        if sequence.source is not None:
            self.pool.let_go(sequence.source)
            sequence.source = None

    def _begin_as_copy(self, sequence: TokenSequence, *, spare: int) -> None:
        """Let its next page begin as a copy of a known one. The source is held until the copy was made.

        `spare` pages more than the sequence needs are available: without one, no cached page can be held as well.
        """
        if sequence.unscored:
            return
        start = len(sequence.known) * self.pool.size
        after = sequence.known[-1] if sequence.known else None
        next_page = tuple(sequence.tokens[start : min(start + self.pool.size, len(sequence.tokens) - 1)])
        found = self.pool.find_beginning(next_page, sequence.tenant, after)
        if found is None or (found[0].holders == 0 and spare == 0):
            return
        sequence.source, tokens = found
        self.pool.hold(sequence.source)
        self._computed_already(sequence, tokens)

    def _use(self, sequence: TokenSequence, found: list[KnownPage]) -> None:
        """Let these known pages hold its next tokens."""
        for known in found:
            self.pool.hold(known)
            index = len(sequence.known)
            if index < len(sequence.pages):
                self.pool.give_back(sequence.pages[index])
                self._replace(sequence, index, known.page)
            else:
                self._append(sequence, known.page)
            sequence.known.append(known)
        self._computed_already(sequence, len(found) * self.pool.size)

    def _computed_already(self, sequence: TokenSequence, tokens: int) -> None:
        sequence.computed += tokens
        if not sequence.preemptions:  # later it finds what it computed itself
            sequence.progress.cached_tokens += tokens

    def grow(self, sequence: TokenSequence, tokens: int) -> bool:
        """Give it pages for its first `tokens` tokens. False when there are too few; it keeps those that it got."""
        while len(sequence.pages) < self.pages_for(tokens):
            page = self.pool.take()
            if page is None:
                return False
            self._append(sequence, page)
        return True

    def _append(self, sequence: TokenSequence, page: int) -> None:
        sequence.pages.append(page)
        self._held.add(sequence.tenant, page)

    def _replace(self, sequence: TokenSequence, index: int, page: int) -> None:
        self._held.drop(sequence.tenant, sequence.pages[index])
        self._held.add(sequence.tenant, page)
        sequence.pages[index] = page

    def note_computed(self, sequence: TokenSequence) -> None:
        """Register its newly filled pages as known."""
        size = self.pool.size
        for index in range(len(sequence.known), sequence.computed // size):
            text = tuple(sequence.tokens[index * size : (index + 1) * size])
            after = sequence.known[-1] if sequence.known else None
            known = self.pool.learn(sequence.pages[index], text, sequence.tenant, after)
            if known.page == sequence.pages[index]:
                sequence.wrote.add(known.page)
            self._replace(sequence, index, known.page)
            sequence.known.append(known)

    def release(self, sequence: TokenSequence, *, keep: bool) -> None:
        """Take all its pages back. Without `keep` no other sequence will use those that it wrote: their contents may
        be wrong."""
        own = sequence.pages[len(sequence.known) :]
        if keep and sequence.source is None and own:
            self._remember_beginning(sequence, own.pop(0))
        self.note_copied(sequence)
        for page in own:
            self.pool.give_back(page)
        for known in reversed(sequence.known):
            if not keep and known.holders == 1 and known.page in sequence.wrote:
                self.pool.forget(known)
            self.pool.let_go(known)
        for page in sequence.pages:
            self._held.drop(sequence.tenant, page)
        sequence.pages.clear()
        sequence.known.clear()
        sequence.wrote.clear()
        sequence.computed = 0

    def distrust(self, sequence: TokenSequence) -> None:
        """Let no sequence find a page of this text again, whoever wrote it: keys or values of it are no numbers.

        It is not known of which page, and sequences that began as copies of it, or it as a copy of theirs, may have
        the same. Those that hold such pages keep them until they end.
        """
        self.pool.forget_alike(tuple(sequence.tokens[: self.pool.size]), sequence.tenant)

    def _remember_beginning(self, sequence: TokenSequence, page: int) -> None:
        """Keep its first own page, which is not full, for copies: the next turn of a conversation begins with it."""
        tokens = tuple(sequence.tokens[len(sequence.known) * self.pool.size : sequence.computed])
        after = sequence.known[-1] if sequence.known else None
        found = self.pool.find_beginning(tokens, sequence.tenant, after)
        if len(tokens) < self.pool.worth_a_copy or (found is not None and found[1] == len(tokens)):
            self.pool.give_back(page)
        else:
            self.pool.let_go(self.pool.learn(page, tokens, sequence.tenant, after))

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
