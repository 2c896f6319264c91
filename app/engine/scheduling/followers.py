"""Who computes the next page of a prompt right now: then another sequence need not compute it, too.

A follower runs, but holds no pages: it has its place, and the sequence that it follows is treated as one as short as
itself when a step's prompt tokens are divided. Once that one has computed every page that both begin with, or is
gone, the follower takes the known pages, and others of its own for the rest. So prompts that arrive at once and begin
alike take memory for that once. Only those of one tenant follow each other, also where tenants share known pages.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from app.engine.kv.known_pages import KnownPage
from app.engine.kv.pages import PagePool
from app.engine.kv.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class Following:
    """A follower's leader, and how many pages they share once the leader has computed them."""

    leader: TokenSequence
    shared: int

    def own(self, follower: TokenSequence, size: int) -> int:
        """Pages of `size` tokens that the follower will need beside those."""
        return -(-len(follower.tokens) // size) - self.shared

    def remaining(self, follower: TokenSequence, size: int) -> int:
        """The follower's tokens that nobody has computed."""
        return len(follower.tokens) - min(self.leader.computed, self.shared * size)


def following(sequence: TokenSequence, running: Iterable[TokenSequence], pool: PagePool) -> Following | None:
    """Of those that run and hold pages, the one of the same tenant that computes this one's next page and shares most
    with it; None when nobody computes that page, or the sequence wants its prompt's rows."""
    if sequence.unscored:
        return None
    leaders = [each for each in running if each.tenant == sequence.tenant and each.pages and each.pending > 1]
    if not leaders:
        return None
    known, size = _known(sequence, pool), pool.size
    found = [Following(each, _common(each, sequence, size)) for each in leaders]
    found = [each for each in found if known == each.leader.computed // size < each.shared]
    return max(found, key=lambda each: each.shared, default=None)


def _known(sequence: TokenSequence, pool: PagePool) -> int:
    """How many of its first pages are known."""
    after: KnownPage | None = None
    for page in range((len(sequence.tokens) - 1) // pool.size):  # its last token is computed in any case
        after = pool.find(sequence.tokens, sequence.tenant, after, page * pool.size)
        if after is None:
            return page
    return (len(sequence.tokens) - 1) // pool.size


def _common(one: TokenSequence, other: TokenSequence, size: int) -> int:
    """How many of their first pages are the same. The last token of `other` belongs to none."""
    pages = 0
    while (
        (end := (pages + 1) * size) < len(other.tokens)
        and end <= len(one.tokens)
        and one.tokens[end - size : end] == other.tokens[end - size : end]
    ):
        pages += 1
    return pages
