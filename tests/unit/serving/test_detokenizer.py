"""A token's text costs the same at the end of a long answer as at its beginning."""

from pathlib import Path
from typing import cast

import pytest
from tokenizers import Tokenizer

from app.contract.events import TokenEvent
from app.serving.detokenizer import Detokenizer


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
