"""Tenants take turns, whatever they have waiting; and places are handed out so."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from app.fair_queue import FairPlaces, FairQueue


def test_tenants_take_turns_and_each_is_served_in_its_order() -> None:
    turns: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "b2", "c1"):
        turns.add(item[0], item)
    turns.put_back("b", "b0")
    turns.remove("a", "a2")
    assert list(turns) == ["a1", "a3", "b0", "b1", "b2", "c1"]
    assert (len(turns), turns.count("b"), turns.count("d")) == (6, 3, 0)
    order = []
    while turns:
        order.append(turns.take(turns.tenants()[0]))
    assert order == ["a1", "b0", "c1", "a3", "b1", "b2"]


def test_the_next_is_the_first_in_turn_that_suits() -> None:
    turns: FairQueue[int] = FairQueue()
    for tenant, item in (("a", 1), ("a", 2), ("b", 2), ("c", 4)):
        turns.add(tenant, item)
    assert turns.next() == 1
    assert turns.next(lambda item: item > 1) == 2
    assert turns.next(lambda item: item > 4) is None


@given(st.lists(st.one_of(st.none(), st.sampled_from("abcd")), max_size=60))
def test_each_other_tenant_has_one_turn_at_most_before_a_first_item(events: list[str | None]) -> None:
    """None: the next is taken; a name: an item of this tenant comes."""
    turns: FairQueue[str] = FairQueue()
    since: dict[str, list[str]] = {}  # turns of others since a tenant's first item is its first
    for tenant in events:
        if tenant is not None:
            turns.add(tenant, tenant)
            since.setdefault(tenant, [])
        elif turns:
            taken = turns.take(turns.tenants()[0])
            del since[taken]
            for others in since.values():
                others.append(taken)
                assert len(set(others)) == len(others)
            if turns.count(taken):
                since[taken] = []


class Holder:
    """Requests that take a place and hold it until they are let go."""

    def __init__(self, places: FairPlaces) -> None:
        self.began: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self._places = places

    def ask(self, tenant: str, name: str) -> asyncio.Task[None]:
        self.ends[name] = asyncio.Event()
        return asyncio.create_task(self._hold(tenant, name))

    async def _hold(self, tenant: str, name: str) -> None:
        async with self._places.place(tenant):
            self.began.append(name)
            await self.ends[name].wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tenants_take_turns_and_no_more_run_than_there_are_places() -> None:
    told: list[tuple[int, int]] = []
    holder = Holder(FairPlaces(1, changed=lambda taken, waiting: told.append((taken, waiting))))
    tasks = [holder.ask("a", f"a{number}") for number in range(3)]
    await turns()
    tasks.append(holder.ask("b", "b0"))
    await turns()
    assert holder.began == ["a0"]
    assert told[-1] == (1, 3)
    for name in ("a0", "a1", "b0", "a2"):
        assert holder.began[-1] == name
        holder.ends[name].set()
        await turns()
    await asyncio.gather(*tasks)
    assert told[-1] == (0, 0)
    assert max(taken for taken, _ in told) == 1


async def test_who_leaves_gives_its_place_or_its_turn_back() -> None:
    told: list[tuple[int, int]] = []
    holder = Holder(FairPlaces(1, changed=lambda taken, waiting: told.append((taken, waiting))))
    running, waiting, last = (holder.ask("a", name) for name in ("running", "waiting", "last"))
    await turns()
    waiting.cancel()
    await turns()
    assert told[-1] == (1, 1)
    running.cancel()
    last.cancel()  # in the same turn as the place becomes free
    await asyncio.gather(running, waiting, last, return_exceptions=True)
    assert told[-1] == (0, 0)
    after = holder.ask("b", "after")
    await turns()
    assert holder.began[-1] == "after"
    holder.ends["after"].set()
    await after


async def test_one_tenant_leaves_places_for_others() -> None:
    holder = Holder(FairPlaces(2, most_of_one=1))
    tasks = [holder.ask("a", "a0"), holder.ask("a", "a1"), holder.ask("b", "b0")]
    await turns()
    assert holder.began == ["a0", "b0"]
    for end in holder.ends.values():
        end.set()
    await asyncio.gather(*tasks)
