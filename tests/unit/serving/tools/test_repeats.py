"""Whether a call repeats an earlier one, while it is written."""

from collections.abc import Iterator

from app.serving.tools.repeats import Repeats


def heard(repeats: Repeats, name: str, text: str) -> Iterator[bool]:
    """After the name and after each character of the arguments: whether it may be a repetition."""
    repeats.begin(name)
    yield repeats.possible
    for character in text:
        repeats.add(character)
        yield repeats.possible


def test_a_call_may_be_a_repetition_as_long_as_it_has_the_text_of_one() -> None:
    repeats = Repeats()
    assert not any(heard(repeats, "f", '{"a": 1}'))
    repeats.end()
    assert all(heard(repeats, "f", '{"a": 1}'))
    assert list(heard(repeats, "f", '{"a": 2}')) == [True] * 7 + [False] * 2
    repeats.end()
    assert repeats.ended == 2
    assert all(heard(repeats, "f", '{"a": 2}'))
    assert not any(heard(repeats, "g", "{}"))
