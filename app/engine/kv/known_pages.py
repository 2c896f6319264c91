"""Pages whose tokens are known, and how they are found: by the same tokens, or by how they begin."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile

Tokens = tuple[int, ...]


class Siblings:
    """Known pages that continue the same page, or begin the texts of the same tenant."""

    def __init__(self) -> None:
        self._pages: dict[Tokens, KnownPage] = {}
        self._sorted: list[Tokens] = []

    def __iter__(self) -> Iterator["KnownPage"]:
        return iter(list(self._pages.values()))

    def __len__(self) -> int:
        return len(self._pages)

    def get(self, tokens: Tokens) -> "KnownPage | None":
        """The page of exactly these tokens."""
        return self._pages.get(tokens)

    def closest(self, tokens: Tokens) -> "tuple[KnownPage, int] | None":
        """The page that has the most first tokens in common with these, and how many; None if no page has any.

        In a sorted list it is next to where these tokens would be.
        """
        place = bisect_left(self._sorted, tokens)
        near = [(common(each, tokens), each) for each in self._sorted[max(0, place - 1) : place + 1]]
        count, best = max(near, default=(0, ()))
        return (self._pages[best], count) if count else None

    def add(self, known: "KnownPage") -> None:
        self._pages[known.tokens] = known
        insort(self._sorted, known.tokens)

    def remove(self, known: "KnownPage") -> None:
        """No search finds it again. Does nothing when none does already."""
        if self._pages.get(known.tokens) is known:
            del self._pages[known.tokens]
            del self._sorted[bisect_left(self._sorted, known.tokens)]


@dataclass(slots=True, eq=False)
class KnownPage:
    """A page whose first tokens are known. Another page can continue it only where these fill it."""

    page: int
    tokens: Tokens
    parent: "KnownPage | None"
    siblings: Siblings  # its parent's children, or a tenant's roots
    children: Siblings = field(default_factory=Siblings)
    holders: int = 0
    used: int = 0  # the pool's clock at its last use
    dropped: bool = False  # its memory is free, or another page's

    @property
    def findable(self) -> bool:
        return self.siblings.get(self.tokens) is self


def common(one: Tokens, other: Tokens) -> int:
    """How many first tokens are the same."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
