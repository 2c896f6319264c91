"""An answer ends before a line that is indented too little, or after one that comes too late."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.requests import LineLimits
from app.serving.line_end import LineEnd


def play(pieces: list[str], limits: LineLimits, times: list[float] | None = None) -> tuple[str, bool]:
    """What comes out, and whether a limit was reached. `times`: the clock at each look at it."""
    clock = iter(times or ())
    end = LineEnd(limits, clock=lambda: next(clock, 0.0))
    shown = ""
    for piece in pieces:
        shown += end.push(piece, last=False)
        if end.reached:
            return shown, True
    return shown + end.push("", last=True), end.reached


@pytest.mark.parametrize(
    ("text", "least", "shown"),
    [
        ("x\n    y\nz\n", 4, "x\n    y\n"),
        ("x\n    y\n   z", 4, "x\n    y\n"),
        ("x\n\n \n    y\n}", 4, "x\n\n \n    y\n"),
        ("x\r\n\r\n    y\r\nz", 4, "x\r\n\r\n    y\r\n"),
        ("no line end", 4, "no line end"),
        ("x\ny", 1, "x\n"),
        ("x\n\ty", 1, "x\n\ty"),
        ("x\ny", 0, "x\ny"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_a_line_that_is_indented_too_little_ends_it(text: str, least: int, shown: str, size: int) -> None:
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert play(pieces, LineLimits(least_indent=least)) == (shown, shown != text)


@given(st.lists(st.text(" \t\nab\r", max_size=6)), st.integers(0, 3))
def test_however_the_text_is_cut_the_same_comes_out(pieces: list[str], least: int) -> None:
    limits = LineLimits(least_indent=least)
    shown, reached = play(pieces, limits)
    assert "".join(pieces).startswith(shown)
    assert (shown, reached) == play(["".join(pieces)], limits)


def test_the_first_line_that_ends_after_the_time_is_the_last() -> None:
    limits = LineLimits(seconds=1.0)
    assert play(["a\n", "b", "b\nc", "c\n"], limits, [0.0, 0.5, 1.5]) == ("a\nbb\n", True)
    assert play(["a", "b", "c"], limits, [0.0, 9.0, 9.0]) == ("abc", False)


def test_without_limits_nothing_is_held_back() -> None:
    end = LineEnd(LineLimits())
    assert [end.push(piece, last=False) for piece in ("a\n", "   ", "b")] == ["a\n", "   ", "b"]
