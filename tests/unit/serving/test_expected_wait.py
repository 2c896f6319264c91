"""A queue with places and memory, played through without a clock."""

from app.contract.engine import Capacity
from app.serving.expected_wait import Stay, Work, stays


def test_who_finds_a_place_starts_now() -> None:
    works = [Work(5, 10), Work(7, 10)]
    assert list(stays(works, Capacity(2, 100))) == [Stay(0, 5), Stay(0, 7)]


def test_the_next_ones_start_when_others_end() -> None:
    works = [Work(5, 10), Work(7, 10), Work(1, 10), Work(9, 10)]
    assert list(stays(works, Capacity(2, 100))) == [Stay(0, 5), Stay(0, 7), Stay(5, 6), Stay(6, 15)]


def test_memory_is_waited_for_like_a_place() -> None:
    works = [Work(5, 60), Work(7, 30), Work(1, 50)]
    assert list(stays(works, Capacity(9, 100)))[-1] == Stay(5, 6)


def test_nobody_overtakes() -> None:
    works = [Work(5, 60), Work(1, 50), Work(1, 10)]
    assert list(stays(works, Capacity(9, 100))) == [Stay(0, 5), Stay(5, 6), Stay(5, 6)]


def test_one_that_is_larger_than_the_memory_starts_alone() -> None:
    works = [Work(5, 10), Work(1, 500), Work(1, 1)]
    assert list(stays(works, Capacity(9, 100))) == [Stay(0, 5), Stay(5, 6), Stay(6, 7)]
