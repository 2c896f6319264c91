"""Pages in any order of calls: none is free and in use, none is lost, and what is forgotten stays so."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from app.engine.kv.known_pages import KnownPage
from app.engine.kv.pages import PagePool

SIZE = 4
TEXTS = ((1, 1, 1, 1), (2, 2, 2, 2))


@dataclass
class Usage:
    """A pool, and what its users hold of it."""

    pool: PagePool = field(default_factory=lambda: PagePool(6, SIZE))
    own: list[int] = field(default_factory=list)  # taken, not known
    held: list[KnownPage] = field(default_factory=list)  # as often as it is held
    every: list[KnownPage] = field(default_factory=list)  # that was ever known
    forgotten: set[KnownPage] = field(default_factory=set)

    def do(self, what: str, which: int) -> None:
        """One call of the pool, if there is something to call it with."""
        among: dict[str, Sequence[object]] = {
            "give_back": self.own,
            "learn": self.own,
            "let_go": self.held,
            "forget": self.every,
        }
        choices = len(among.get(what, (None,)))
        if choices:
            getattr(self, what)(which % choices, which)

    def take(self, _place: int, _which: int) -> None:
        available, page = self.pool.available, self.pool.take()
        assert (page is None) == (available == 0)
        if page is not None:
            self.own.append(page)

    def give_back(self, place: int, _which: int) -> None:
        self.pool.give_back(self.own.pop(place))

    def learn(self, place: int, which: int) -> None:
        after = self._after(which)
        known = self.pool.learn(self.own.pop(place), TEXTS[which % 2], "a", after)
        if known not in self.every:
            self.every.append(known)
            if after in self.forgotten:
                self.forgotten.add(known)
        self.held.append(known)

    def hold(self, _place: int, which: int) -> None:
        known = self.pool.find(TEXTS[which % 2], "a", self._after(which), 0)
        if known is not None:
            self.pool.hold(known)
            self.held.append(known)

    def let_go(self, place: int, _which: int) -> None:
        """Who holds a page holds those before it, so none is let go before what follows it."""
        last = self.held.count(self.held[place]) == 1
        if not (last and any(each.parent is self.held[place] for each in self.held)):
            self.pool.let_go(self.held.pop(place))

    def forget(self, place: int, _which: int) -> None:
        self.pool.forget(self.every[place])
        self.forgotten.add(self.every[place])
        for known in self.every:  # parents come before their children
            if known.parent in self.forgotten:
                self.forgotten.add(known)

    def forget_cached(self, _place: int, _which: int) -> None:
        self.pool.forget_cached()
        assert self.pool.free == self.pool.available

    def _after(self, which: int) -> KnownPage | None:
        """One that is held, or the beginning."""
        return [None, *self.held][which // 2 % (1 + len(self.held))]

    def found(self) -> Iterator[KnownPage]:
        """Every page that a search finds, behind the beginning and behind those that are held."""
        behind: list[KnownPage | None] = [None, *self.held]
        for after in behind:
            found = [known for text in TEXTS if (known := self.pool.find(text, "a", after, 0)) is not None]
            behind += [known for known in found if known not in behind]
            yield from found

    def check(self) -> None:
        holders, free = Counter(known.page for known in self.held), self.pool._free
        assert len(free) == len(set(free)), "no page is free twice"
        assert not set(free) & {*self.own, *holders}, "no page is free and in use"
        assert not set(self.own) & set(holders)
        assert len(holders) == len(set(self.held)), "no two known pages are the same memory"
        assert self.pool.in_use == len(self.own) + len(holders)
        assert self.pool.free + self.pool.cached + self.pool.in_use == self.pool.count
        assert self.pool.shared == sum(count > 1 for count in holders.values())
        found = set(self.found())
        assert not found & self.forgotten
        assert not {known.page for known in found} & {*free, *self.own}
        assert sum(known not in self.held for known in found) == self.pool.cached, "what nobody finds is not kept"


calls = st.sampled_from(("take", "give_back", "learn", "learn", "hold", "let_go", "forget", "forget_cached"))


@given(st.lists(st.tuples(calls, st.integers(0, 40)), max_size=60))
def test_pages_are_free_or_in_use_or_cached_whatever_is_done_with_them(done: list[tuple[str, int]]) -> None:
    usage = Usage()
    for what, which in done:
        usage.do(what, which)
        usage.check()
