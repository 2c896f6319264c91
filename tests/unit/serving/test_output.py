"""Text comes out piece by piece, and is in the end what a full decode gives."""

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from app.contract.events import Piece, TextEvent, TokenEvent
from app.serving.detokenizer import Detokenizer
from app.serving.output import OutputStream
from app.serving.parser import PlainParser


@pytest.fixture(scope="module")
def tokenizer(embedded_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(embedded_model / "tokenizer.json"))


def output(tokenizer: Tokenizer, stop: tuple[str, ...]) -> OutputStream:
    return OutputStream(Detokenizer(tokenizer), PlainParser(stop))


def play(tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...] = ()) -> tuple[list[Piece], OutputStream]:
    stream = output(tokenizer, stop)
    events: list[Piece] = []
    for token in ids:
        events += stream.push(TokenEvent(token))
        if stream.stopped:
            break
    events += stream.flush()
    return events, stream


def joined(events: list[Piece]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


@given(ids=st.lists(st.one_of(st.integers(0, 49_151), st.integers(17, 300)), max_size=40))  # 17-300: single bytes
@example(ids=[])
@settings(deadline=None, max_examples=300)
def test_any_tokens_give_the_full_decode(tokenizer: Tokenizer, ids: list[int]) -> None:
    events, _ = play(tokenizer, ids)
    assert joined(events) == tokenizer.decode(ids, skip_special_tokens=True)
    assert [token.token for event in events for token in event.tokens] == ids[: sum(len(e.tokens) for e in events)]


@given(text=st.text())
@settings(deadline=None, max_examples=200)
def test_any_text_comes_out_whole_and_never_by_half_characters(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    events, _ = play(tokenizer, ids)
    whole = tokenizer.decode(ids, skip_special_tokens=True)  # the vocabulary lacks some bytes: not always `text`
    assert joined(events) == whole
    if "\ufffd" not in whole:
        assert not any("\ufffd" in joined([event]) for event in events)


def test_half_a_character_at_the_end_is_the_replacement_character(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode("ok 🎉", add_special_tokens=False).ids[:-1]
    events, _ = play(tokenizer, ids)
    assert joined(events) == tokenizer.decode(ids) == "ok \ufffd"


def test_a_leading_space_is_kept(tokenizer: Tokenizer) -> None:
    events, _ = play(tokenizer, tokenizer.encode(" return a").ids)
    assert joined(events) == " return a"


def expected(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """The definition: read character by character, the first stop string that is complete ends the text."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(
    text=st.text(alphabet="ab\n#é", max_size=40),
    stops=st.lists(st.text(alphabet="ab\n#é", min_size=1, max_size=5), max_size=4).map(tuple),
)
@settings(deadline=None, max_examples=400)
def test_stop_strings_end_the_text_and_never_leak(tokenizer: Tokenizer, text: str, stops: tuple[str, ...]) -> None:
    events, stream = play(tokenizer, tokenizer.encode(text, add_special_tokens=False).ids, stops)
    assert (joined(events), stream.stop_string) == expected(text, stops)


def test_no_more_is_held_back_than_may_become_a_stop_string(tokenizer: Tokenizer) -> None:
    stream = output(tokenizer, ("###END",))
    seen = ""
    for character in "abc##d###":
        [token] = tokenizer.encode(character).ids
        seen += joined(stream.push(TokenEvent(token)))
    assert seen == "abc##d"
    assert joined(stream.flush()) == "###"
