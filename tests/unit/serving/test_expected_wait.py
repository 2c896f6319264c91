"""A queue with places and memory, played through without a clock."""

from app.contract.engine import Capacity
from app.serving.expected_wait import Stay, Work, stays


def work(seconds: float, kv_tokens: int, tenant: str = "a") -> Work:
    return Work(seconds, kv_tokens, tenant)


def test_who_finds_a_place_starts_now() -> None:
    works = [work(5, 10), work(7, 10)]
    assert stays(works, Capacity(2, 100)) == [Stay(0, 5), Stay(0, 7)]


def test_the_next_ones_start_when_others_end() -> None:
    works = [work(5, 10), work(7, 10), work(1, 10), work(9, 10)]
    assert stays(works, Capacity(2, 100)) == [Stay(0, 5), Stay(0, 7), Stay(5, 6), Stay(6, 15)]


def test_memory_is_waited_for_like_a_place() -> None:
    works = [work(5, 60), work(7, 30), work(1, 50)]
    assert stays(works, Capacity(9, 100))[-1] == Stay(5, 6)


def test_nobody_overtakes() -> None:
    works = [work(5, 60), work(1, 50), work(1, 10)]
    assert stays(works, Capacity(9, 100)) == [Stay(0, 5), Stay(5, 6), Stay(5, 6)]


def test_one_that_is_larger_than_the_memory_starts_alone() -> None:
    works = [work(5, 10), work(1, 500), work(1, 1)]
    assert stays(works, Capacity(9, 100)) == [Stay(0, 5), Stay(5, 6), Stay(6, 7)]


def test_tenants_take_turns_for_what_is_beyond_their_shares() -> None:
    works = [*[work(5, 1)] * 3, work(5, 1, "b"), work(5, 1, "b")]
    assert [stay.start for stay in stays(works, Capacity(1, 100))] == [0, 10, 20, 5, 15]


def test_who_is_within_its_share_starts_before_a_flood_that_came_earlier() -> None:
    works = [*[work(5, 1)] * 10, work(5, 1, "b"), work(5, 1, "b"), work(5, 1, "b")]
    starts = [stay.start for stay in stays(works, Capacity(4, 100))]
    assert starts[10:] == [0, 0, 5]
    assert starts[:10].count(0) == 2


def test_memory_has_shares_as_places_have() -> None:
    works = [work(5, 50), work(5, 50), work(1, 40, "b")]
    assert [stay.start for stay in stays(works, Capacity(9, 100))] == [0, 1, 0]


def test_a_place_that_a_tenant_leaves_stays_its_own_while_it_has_no_more_than_its_share() -> None:
    works = [*[work(5, 1)] * 3, *[work(1, 1, "b")] * 3]
    assert [stay.start for stay in stays(works, Capacity(2, 100))] == [0, 3, 5, 0, 1, 2]
