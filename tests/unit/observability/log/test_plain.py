"""Whatever is logged becomes plain JSON of bounded size."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.observability.log.plain import MAX_ITEMS, plain, shorten, shorten_middle


class Odd:
    def __repr__(self) -> str:
        return "odd" * 100


NESTED: dict[str, object] = {}
NESTED["self"] = NESTED


@pytest.mark.parametrize(
    "value",
    ["\ud800 half a character", 2**70, float("nan"), b"\xff\xfe", Odd(), {1: {2, 3}}, NESTED, [[[[[[1]]]]]], object],
    ids=["surrogate", "big", "nan", "bytes", "repr", "keys", "cycle", "deep", "class"],
)
def test_any_value_renders(value: object) -> None:
    assert orjson.loads(orjson.dumps({"field": plain(value, 50)}))


@given(st.text(st.characters(codec=None), max_size=40), st.integers(0, 50))
def test_a_text_is_cut_at_the_limit_and_says_how_much_is_missing(text: str, limit: int) -> None:
    shortened = shorten(text, limit)
    cut = len(text) - limit
    assert shortened.endswith(f"… [{cut} more characters]") == (cut > 0)
    shortened.encode()  # raises on what UTF-8 cannot hold


def test_a_long_container_is_cut() -> None:
    rendered = plain(list(range(10_000)), 50)
    assert isinstance(rendered, list)
    assert len(rendered) == MAX_ITEMS


def test_a_traceback_keeps_both_ends() -> None:
    shortened = shorten_middle("Traceback" + "x" * 10_000 + "the reason", 100)
    assert shortened.startswith("Traceback")
    assert shortened.endswith("the reason")
    assert "9919 more characters" in shortened
