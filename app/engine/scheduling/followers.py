"""Who computes the next page of a prompt right now: then another sequence need not compute it, too.

A follower runs, but holds no pages: it has its place, and the sequence that it follows is treated as one as short as
itself when a step's prompt tokens are divided. Once that one has computed every page that both begin with, or is
gone, the follower takes the known pages, and others of its own for the rest. So prompts that arrive at once and begin
alike take memory for that once. Only those of one tenant follow each other, also where tenants share known pages.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from app.engine.kv.known_pages import KnownPage
from app.engine.kv.pages import PagePool
from app.engine.kv.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class Following:
    """A follower's leader, and how many pages they share once the leader has computed them."""

    leader: TokenSequence
    shared: int


class Followers:
    """The running sequences that hold no pages."""

    def __init__(self, pool: PagePool) -> None:
        self._pool = pool
        self._followers: dict[str, tuple[TokenSequence, Following]] = {}

    def __contains__(self, sequence: TokenSequence) -> bool:
        return sequence.id in self._followers

    def add(self, sequence: TokenSequence, found: Following) -> None:
        self._followers[sequence.id] = (sequence, found)

    def drop(self, sequence: TokenSequence) -> None:
        """It holds pages now, or is gone."""
        self._followers.pop(sequence.id, None)

    def goes_on(self, sequence: TokenSequence, before: Sequence[TokenSequence]) -> bool:
        """Whether a follower goes on without pages: one of those admitted `before` it computes its next page."""
        _, found = self._followers[sequence.id]
        runs = any(each is found.leader for each in before)
        if runs and found.leader.computed // self._pool.size < found.shared:
            return True  # to search anew would go through the whole prompt
        another = following(sequence, before, self._pool)
        if another is None:
            self.drop(sequence)
            return False
        self.add(sequence, another)
        return True

    def promised(self, tenant: str | None = None) -> int:
        """Pages that followers will need: all of them, or this tenant's."""
        followers = [each for each, _ in self._followers.values()]
        return sum(self.own(each) for each in followers if tenant is None or each.tenant == tenant)

    def own(self, sequence: TokenSequence) -> int:
        """Pages that a follower will need beside those that it shares; 0 for any other sequence."""
        if sequence not in self:
            return 0
        return own_pages(sequence, self._followers[sequence.id][1], self._pool.size)

    def remaining(self) -> dict[TokenSequence, int]:
        """Those that are followed, with the tokens of their shortest follower that nobody has computed."""
        tokens: dict[TokenSequence, int] = {}
        for follower, found in self._followers.values():
            left = len(follower.tokens) - min(found.leader.computed, found.shared * self._pool.size)
            tokens[found.leader] = min(left, tokens.get(found.leader, left))
        return tokens


def own_pages(sequence: TokenSequence, found: Following, size: int) -> int:
    """Pages of `size` tokens that a follower will need beside those that it shares."""
    return -(-len(sequence.tokens) // size) - found.shared


def following(sequence: TokenSequence, running: Iterable[TokenSequence], pool: PagePool) -> Following | None:
    """Of those that run and hold pages, the one of the same tenant that computes this one's next page and shares most
    with it; None when nobody computes that page, or the sequence wants its prompt's rows."""
    if sequence.unscored:
        return None
    leaders = [each for each in running if each.tenant == sequence.tenant and each.pages and each.pending > 1]
    if not leaders:
        return None
    known, last = _known(sequence, pool)
    found = [
        Following(each, known + _alike(each, sequence, known, pool.size))
        for each in leaders
        if each.computed // pool.size == known and (last is None or each.known[known - 1] is last)
    ]
    return max((each for each in found if each.shared > known), key=lambda each: each.shared, default=None)


def _known(sequence: TokenSequence, pool: PagePool) -> tuple[int, KnownPage | None]:
    """How many of its first pages are known, and the last of these. Its last token is computed in any case."""
    last: KnownPage | None = None
    pages = (len(sequence.tokens) - 1) // pool.size
    for page in range(pages):
        after = pool.find(sequence.tokens, sequence.tenant, last, page * pool.size)
        if after is None:
            return page, last
        last = after
    return pages, last


def _alike(one: TokenSequence, other: TokenSequence, page: int, size: int) -> int:
    """How many pages from this one on are the same in both. The last token of `other` belongs to none."""
    begin = end = page * size
    while (
        (end + size) < len(other.tokens)
        and end + size <= len(one.tokens)
        and one.tokens[end : end + size] == other.tokens[end : end + size]
    ):
        end += size
    return (end - begin) // size
