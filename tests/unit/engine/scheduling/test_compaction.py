"""Running sequences are moved together, one move at a time, and no further than it pays."""

from hypothesis import given
from hypothesis import strategies as st

from app.engine.scheduling.compaction import FEW, next_move

SLOTS = st.sets(st.integers(0, 40), max_size=24)


def test_nothing_runs_nothing_moves() -> None:
    assert next_move([], [0, 1, 2]) is None


def test_neighbours_stay_where_they_are() -> None:
    assert next_move([7, 8, 9], []) is None


def test_a_far_one_joins_the_others() -> None:
    assert next_move([0, 1, 3, 30], []) == (30, 2)
    assert next_move([0, 20, 21, 23], []) == (0, 1)


def test_empty_slots_below_are_given_back() -> None:
    assert next_move([5], [0, 1]) == (5, 0)
    assert next_move([5], [0, 6]) is None, "one is left alone, and what lies above is free already"


@given(SLOTS, SLOTS)
def test_moves_end_and_leave_a_narrow_window(running: set[int], empty: set[int]) -> None:
    empty -= running
    count = len(running)
    for _ in range(100):
        move = next_move(sorted(running), sorted(empty))
        if move is None:
            break
        source, target = move
        assert source in running
        assert target not in running
        empty.discard(target)
        running = (running - {source}) | {target}
    else:
        raise AssertionError("it moves for ever")
    assert not running or max(running) + 1 - min(running) <= count + count // FEW
