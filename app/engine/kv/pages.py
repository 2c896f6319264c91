"""The pool of the KV cache's pages: free ones, those in use, and those whose tokens are known. No tensors.

A page is known by its tokens, by the page before it and by the tenant: known pages form a tree for each tenant. A
full page is found by its tokens among the children of the page before it, and may be shared; any known page is found
by how it begins, and may be copied (`known_pages.py`). The tokens themselves are compared, so a collision of hashes
cannot show one user the text of another. Holders are counted. A known page without holders is cached until its memory
is needed: the least recently used is evicted first, and leaves before their parents.
"""

import heapq
import itertools
from collections.abc import Sequence

from app.engine.kv.known_pages import KnownPage, Siblings, Tokens, common

PAGE_SIZE = 32
"""Tokens in a page: docs/decisions/0005-kv-memory-by-pages.md has the figures."""

EVERYBODY = ""
"""The tenant of all pages when prefixes are shared between tenants."""


class PagePool:
    """`count` pages of `size` tokens. No operation takes longer with more pages."""

    def __init__(self, count: int, size: int, *, share_prefixes: bool = False) -> None:
        self.count = count
        self.size = size
        self._share = share_prefixes
        self._free = list(range(count - 1, -1, -1))  # the last one is taken next
        self._unwritten = count  # so many of the first free ones take no memory on a CPU
        self._roots: dict[str, Siblings] = {}
        self._evictable: list[tuple[int, int, KnownPage]] = []  # a heap; entries may be out of date
        self._order = itertools.count()
        self._clock = 0
        self._known = 0
        self._cached = 0
        self._shared = 0
        self.evicted = 0  # since the start

    @property
    def available(self) -> int:
        """Pages that `take` can give: free ones and known ones without a holder."""
        return len(self._free) + self._cached

    @property
    def free(self) -> int:
        return len(self._free)

    @property
    def cached(self) -> int:
        """Known pages without a holder."""
        return self._cached

    @property
    def shared(self) -> int:
        """Known pages with more than one holder."""
        return self._shared

    @property
    def in_use(self) -> int:
        return self.count - self.available

    @property
    def worth_a_copy(self) -> int:
        """Tokens from which a copy takes less time than to compute them: it is one operation per layer."""
        return max(1, self.size // 4)

    def find(self, tokens: Sequence[int], tenant: str, after: KnownPage | None, start: int) -> KnownPage | None:
        """The known page that continues `after` with the page of tokens at `start`; None if there is none."""
        return self._children(tenant, after).get(tuple(tokens[start : start + self.size]))

    def find_beginning(self, tokens: Tokens, tenant: str, after: KnownPage | None) -> tuple[KnownPage, int] | None:
        """The known page behind `after` that has the most first tokens in common with these, and how many.

        None where a copy saves less time than it takes.
        """
        found = self._children(tenant, after).closest(tokens)
        return found if found is not None and found[1] >= self.worth_a_copy else None

    def hold(self, known: KnownPage) -> None:
        known.holders += 1
        if known.holders == 1:
            self._cached -= 1
        elif known.holders == 2:
            self._shared += 1

    def let_go(self, known: KnownPage) -> None:
        """One holder less. Let a sequence's last pages go first, so that they are evicted before their parents."""
        known.holders -= 1
        self._clock += 1
        known.used = self._clock
        if known.holders == 1:
            self._shared -= 1
        elif known.holders == 0:
            self._cached += 1
            self._offer(known)

    def take(self) -> int | None:
        """A page for new tokens. Evicts a cached one when none is free. None when every page is in use."""
        if not self._free and not self._evict():
            return None
        page = self._free.pop()
        self._unwritten = min(self._unwritten, len(self._free))
        return page

    def newly_free(self) -> list[int]:
        """The free pages that were taken since the last call: on a CPU they still take memory."""
        pages = self._free[self._unwritten :]
        self._unwritten = len(self._free)
        return pages

    def give_back(self, page: int) -> None:
        """A page that is not known is free again."""
        self._free.append(page)

    def learn(self, page: int, tokens: Tokens, tenant: str, after: KnownPage | None) -> KnownPage:
        """Register a page of these tokens. Returns the known page, held once by the caller.

        If these tokens are known already, that page is returned and this one is free again. A page that continues a
        forgotten one is as little found.
        """
        siblings = self._children(tenant, after)
        known = siblings.get(tokens)
        if known is not None:
            self.give_back(page)
        else:
            known = KnownPage(page, tokens, after, siblings)
            if after is None or after.findable:
                siblings.add(known)
            self._known += 1
            self._cached += 1  # until it is held, in the next line
        self.hold(known)
        return known

    def forget(self, known: KnownPage) -> None:
        """Let no sequence find this page or its descendants again. Those without holders are free at once."""
        all_below = [known]
        for page in all_below:  # not by recursion: a long conversation is a chain of thousands
            all_below.extend(page.children)
        for page in reversed(all_below):
            page.siblings.remove(page)
            if page.holders == 0:
                self._drop(page)
        if known.parent is not None and known.parent.holders == 0:
            self._offer(known.parent)

    def forget_alike(self, tokens: Tokens, tenant: str) -> None:
        """Forget every text of the tenant whose first page begins as these tokens do, as far as one is copied from
        the other."""
        for known in self._children(tenant, None):
            if common(known.tokens, tokens) >= self.worth_a_copy:
                self.forget(known)

    def forget_cached(self) -> None:
        """Free every known page without a holder."""
        while self._evict():
            pass

    def _children(self, tenant: str, after: KnownPage | None) -> Siblings:
        if after is not None:
            return after.children
        return self._roots.setdefault(EVERYBODY if self._share else tenant, Siblings())

    def _offer(self, known: KnownPage) -> None:
        if not known.findable:  # it was forgotten while it was held
            self._drop(known)
            return
        if not known.children:
            heapq.heappush(self._evictable, (known.used, next(self._order), known))
            if len(self._evictable) > 2 * self._known + 64:
                self._evictable = [entry for entry in self._evictable if _is_current(entry)]
                heapq.heapify(self._evictable)

    def _evict(self) -> bool:
        """Free the least recently used leaf; False when there is none."""
        while self._evictable:
            entry = heapq.heappop(self._evictable)
            if not _is_current(entry):
                continue
            known = entry[2]
            known.siblings.remove(known)
            self._drop(known)
            self.evicted += 1
            parent = known.parent
            if parent is not None and parent.holders == 0:
                self._offer(parent)
            return True
        return False

    def _drop(self, known: KnownPage) -> None:
        """Free a page that is no longer known, if that was not done: a page forgotten after its child is offered
        again."""
        if known.dropped:
            return
        known.dropped = True
        self._known -= 1
        self._cached -= 1
        known.used = -1  # entries of it in the heap are out of date
        self._free.append(known.page)


def _is_current(entry: tuple[int, int, KnownPage]) -> bool:
    used, _, known = entry
    return known.holders == 0 and not known.children and known.used == used
