"""A step in parts has the rows of the whole step, each once and in order."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.engine.attention.step import Row, Scored, Span, Step, step_of
from app.engine.attention.step_parts import parts_of
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, SequenceChunk

PAGE = 4


def sequence(name: str, tokens: int) -> TokenSequence:
    made = TokenSequence(name, list(range(tokens)), 8)
    made.pages = list(range(100, 100 + tokens // PAGE + 1))
    return made


def step(decoding: list[int], prompts: list[tuple[int, int, bool]]) -> Step:
    """`decoding` are contexts; `prompts` are (start, length, whether the prompt ends there)."""
    decode = tuple(
        SequenceChunk(sequence(f"d{number}", context + 1), context, 1) for number, context in enumerate(decoding)
    )
    prefill = tuple(
        SequenceChunk(sequence(f"p{number}", start + length + (not ends)), start, length)
        for number, (start, length, ends) in enumerate(prompts)
    )
    return step_of(Decision(decode, prefill), PAGE)


STEPS = st.builds(
    step,
    st.lists(st.integers(1, 40), max_size=5),
    st.lists(st.tuples(st.integers(0, 30), st.integers(2, 40), st.booleans()), min_size=1, max_size=4),
)


def joined(lists: Iterable[Iterable[Any]]) -> list[Any]:
    return list(chain.from_iterable(lists))


def seen_by(whole: Step) -> list[tuple[tuple[int, ...], int]]:
    """For each row of a step the pages and the number of tokens that it sees."""
    rows = [(tuple(row.table), row.length) for row in whole.decode]
    return rows + [(tuple(span.table), end) for span in whole.spans for end in range(span.start + 1, span.end + 1)]


@given(STEPS, st.integers(1, 9))
def test_every_row_is_computed_once_and_sees_what_it_saw(whole: Step, count: int) -> None:
    parts = parts_of(whole, {1: count})
    assert joined(part.tokens for part in parts) == whole.tokens
    assert joined(part.positions for part in parts) == whole.positions
    assert joined(part.slots for part in parts) == whole.slots
    assert joined(map(seen_by, parts)) == seen_by(whole)
    for part in parts:
        covered = joined(range(span.rows.start, span.rows.stop) for span in part.spans)
        assert covered == list(range(len(part.decode), len(part.tokens)))


@given(STEPS, st.integers(1, 9))
def test_sampled_rows_keep_their_order(whole: Step, count: int) -> None:
    parts = parts_of(whole, {1: count})
    assert joined(part.sampled for part in parts) == list(whole.sampled)
    starts = [sum(len(part.tokens) for part in parts[:number]) for number in range(len(parts))]
    rows = [row + start for part, start in zip(parts, starts, strict=True) for row in part.sampled_rows]
    assert rows == whole.sampled_rows


@given(STEPS, st.integers(1, 9))
def test_the_decoding_rows_are_in_the_first_part(whole: Step, count: int) -> None:
    first, *others = parts_of(whole, {1: count})
    assert first.decode == whole.decode
    assert not any(part.decode for part in others)


def test_the_parts_have_about_the_same_size() -> None:
    parts = parts_of(step([9, 9], [(0, 30, True), (8, 68, True)]), {1: 4})
    assert [len(part.tokens) for part in parts] == [25, 25, 25, 25]


@pytest.mark.parametrize(("rows", "count"), [(9, 1), (10, 2), (39, 2), (40, 4), (400, 4)])
def test_the_largest_known_size_that_is_not_larger_decides(rows: int, count: int) -> None:
    assert len(parts_of(step([], [(0, rows, True)]), {10: 2, 40: 4})) == count


def test_a_step_without_prompts_stays_whole() -> None:
    whole = step([9] * 20, [])
    assert parts_of(whole, {1: 4}) == [whole]


def test_a_step_whose_prompt_is_scored_stays_whole() -> None:
    whole = step([], [(0, 40, True)])
    scored = replace(whole, scored=(Scored(whole.sampled[0].sequence, range(1, 40), range(39)),))
    assert parts_of(scored, {1: 4}) == [scored]


def test_a_part_of_a_chunk_begins_where_the_last_one_ended() -> None:
    (first, second) = parts_of(step([5], [(8, 9, True)]), {1: 2})
    assert first.decode == (Row([100, 101], 6),)
    assert first.spans == (Span([100, 101, 102, 103, 104], 8, 12, slice(1, 5)),)
    assert second.spans == (Span([100, 101, 102, 103, 104], 12, 17, slice(0, 5)),)
    assert second.sampled_rows == [4]
