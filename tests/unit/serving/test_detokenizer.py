"""Token by token comes what all tokens are, and the last one costs as little as the first."""

from pathlib import Path
from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from app.contract.events import TokenEvent
from app.serving.detokenizer import Detokenizer
from tests.support.deepseek import MODEL, save_tokenizer


class Counting:
    """Counts how many tokens are decoded."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.decoded = 0

    def decode(self, ids: list[int], *, skip_special_tokens: bool) -> str:
        self.decoded += len(ids)
        return self._tokenizer.decode(ids, skip_special_tokens=skip_special_tokens)


@pytest.mark.parametrize("repeated", ["ä", "Ġword", "<|im_end|>", "ä Ł"], ids=["half", "words", "special", "halves"])
def test_work_and_waiting_do_not_grow_with_the_answer(embedded_model: Path, repeated: str) -> None:
    tokenizer = Tokenizer.from_file(str(embedded_model / "tokenizer.json"))
    vocabulary = tokenizer.get_vocab()
    ids = [vocabulary[name] for name in repeated.split()] * 2000
    counting = Counting(tokenizer)
    detokenizer = Detokenizer(cast("Tokenizer", counting))
    text, waiting = "", 0
    for token in ids:
        event = detokenizer.push(TokenEvent(token))
        text += event.text if event else ""
        waiting = 0 if event else waiting + 1
        assert waiting <= 8 or repeated == "<|im_end|>"
    assert counting.decoded < 40 * len(ids)
    assert text + detokenizer.flush().text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.fixture(scope="module")
def deepseek(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("deepseek")
    save_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@given(st.lists(st.integers(0, MODEL.vocabulary - 1) | st.integers(3, 258), max_size=60))
@settings(max_examples=300)
def test_any_tokens_of_deepseeks_family_are_what_they_are_together(deepseek: Tokenizer, ids: list[int]) -> None:
    """The first ids are single bytes, in any order: most are half a character, or none."""
    detokenizer = Detokenizer(deepseek)
    events = [detokenizer.push(TokenEvent(token)) for token in ids]
    pieces = [event.text for event in events if event is not None]
    assert "".join(pieces) + detokenizer.flush().text == deepseek.decode(ids, skip_special_tokens=True)
