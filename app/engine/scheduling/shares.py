"""Equal shares of the places and of the pages, for every tenant that has a sequence.

What one tenant does not use the others may, and give it back when it is wanted: a sequence within its tenant's share
takes what is beyond the shares of others. Everyone may run one sequence, of any size, and keeps its oldest.
"""

from collections.abc import Callable, Iterable
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

    def has_room(self, running: int, pages: int) -> bool:
        """Whether a tenant that runs so many sequences may run one more, with which it needs these pages."""
        return not running or (running < self.places and pages <= self.pages)

    def beyond_places(self, running: Iterable[TokenSequence]) -> TokenSequence | None:
        """The youngest sequence of the tenant that is furthest beyond its share of places."""
        return _youngest_beyond(running, len, self.places)

    def beyond_pages(self, running: Iterable[TokenSequence], held: Callable[[str], int]) -> TokenSequence | None:
        """The youngest sequence of the tenant that is furthest beyond its share of pages, of which it has `held`."""
        return _youngest_beyond(running, lambda group: held(group[0].tenant), self.pages)


def by_tenant(running: Iterable[TokenSequence]) -> dict[str, list[TokenSequence]]:
    """Each tenant's, in their order."""
    groups: dict[str, list[TokenSequence]] = {}
    for sequence in running:
        groups.setdefault(sequence.tenant, []).append(sequence)
    return groups


def _youngest_beyond(
    running: Iterable[TokenSequence], amount: Callable[[list[TokenSequence]], int], share: int
) -> TokenSequence | None:
    groups = [group for group in by_tenant(running).values() if len(group) > 1 and amount(group) > share]
    return max(groups, key=amount)[-1] if groups else None
