"""Equal shares of the places and of the pages, for every tenant that has a sequence.

What one tenant does not use the others may, and give it back when it is wanted: a sequence within its tenant's share
takes what is beyond the shares of others. Everyone may run one sequence, of any size, and keeps its oldest.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from app.engine.kv.sequence import TokenSequence


@dataclass(frozen=True, slots=True)
class Shares:
    """One tenant's share."""

    places: int
    pages: int

    @classmethod
    def of(cls, places: int, pages: int, tenants: int) -> "Shares":
        return cls(max(1, places // tenants), pages // tenants)

    def holds(self, own: Collection[TokenSequence], more_pages: int) -> bool:
        """Whether the tenant that runs `own` may run one more, for which these pages must be free."""
        return not own or (len(own) < self.places and pages_of(own) + more_pages <= self.pages)

    def beyond_places(self, running: Iterable[TokenSequence]) -> TokenSequence | None:
        """The youngest sequence of the tenant that is furthest beyond its share of places."""
        return _youngest_beyond(running, len, self.places)

    def beyond_pages(self, running: Iterable[TokenSequence]) -> TokenSequence | None:
        """The youngest sequence of the tenant that is furthest beyond its share of pages."""
        return _youngest_beyond(running, pages_of, self.pages)


def by_tenant(running: Iterable[TokenSequence]) -> dict[str, list[TokenSequence]]:
    """Each tenant's, in their order."""
    groups: dict[str, list[TokenSequence]] = {}
    for sequence in running:
        groups.setdefault(sequence.tenant, []).append(sequence)
    return groups


def pages_of(sequences: Iterable[TokenSequence]) -> int:
    """The pages that they hold; those that they share count once."""
    return len({page for sequence in sequences for page in sequence.pages})


def _youngest_beyond(
    running: Iterable[TokenSequence], amount: Callable[[list[TokenSequence]], int], share: int
) -> TokenSequence | None:
    groups = [group for group in by_tenant(running).values() if len(group) > 1 and amount(group) > share]
    return max(groups, key=amount)[-1] if groups else None
