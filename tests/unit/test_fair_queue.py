"""Tenants take turns, whatever they have waiting."""

from hypothesis import given
from hypothesis import strategies as st

from app.fair_queue import FairQueue


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
