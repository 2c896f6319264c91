"""Every request has its own budget of a grammar's states."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from app.contract.errors import GenerationFailed, GrammarExhausted
from app.contract.requests import JsonGrammar
from app.engine.grammars.compiler import Grammars
from app.engine.scripted import SCRIPTED_MODEL

LONGEST = 8000
"""Characters that a schema may count (`app/serving/constrained/json_keywords.py`)."""


@pytest.fixture(scope="module")
def grammars(embedded_model: Path) -> Grammars:
    return Grammars(embedded_model, SCRIPTED_MODEL)


class Asking:
    """Requests with one schema, whose answers a test says."""

    def __init__(self, grammars: Grammars, folder: Path, schema: dict[str, Any]) -> None:
        self._grammars = grammars
        self._grammar = JsonGrammar(schema=json.dumps(schema), param="response_format")
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def say(self, text: str) -> None:
        """Raises what the constraint raises. As the sampler does: a mask before each token."""
        constraint = self._grammars.compile(self._grammar)
        for token in self._tokenizer.encode(text, add_special_tokens=False).ids:
            assert constraint.allowed()[token // 8] >> token % 8 & 1
            constraint.accept(token)


def test_a_thousand_answers_with_long_values(grammars: Grammars, embedded_model: Path) -> None:
    asking = Asking(grammars, embedded_model, {"type": "string", "maxLength": LONGEST})
    for number in range(1000):
        asking.say('"' + f"{number} words " * 20)
    asking.say('"' + "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(LONGEST)))
    asking.say('"' + ("".join(chr(32 + n * 7 % 90) for n in range(LONGEST)).replace('"', "x").replace("\\", "y")))


def test_what_one_answer_uses_up_is_there_for_the_next(grammars: Grammars, embedded_model: Path) -> None:
    counted = {"type": "string", "maxLength": LONGEST}
    properties = {name: counted | {"minLength": length} for length, name in enumerate("abc")}  # three lexemes
    schema = {"type": "object", "properties": properties, "required": list("abc"), "additionalProperties": False}
    asking = Asking(grammars, embedded_model, schema)
    words = "".join(chr(0x4E00 + n * 7 % 20_000) for n in range(LONGEST))
    for _ in range(2):
        with pytest.raises(GrammarExhausted):
            asking.say(json.dumps(dict.fromkeys("abc", words), ensure_ascii=False))
        asking.say(json.dumps(dict.fromkeys("abc", "short")))


def test_a_token_that_is_not_allowed_is_no_exhaustion(grammars: Grammars, embedded_model: Path) -> None:
    constraint = grammars.compile(JsonGrammar(schema='{"type": "boolean"}', param="response_format"))
    (refused,) = Tokenizer.from_file(str(embedded_model / "tokenizer.json")).encode("x").ids
    with pytest.raises(GenerationFailed) as failure:
        constraint.accept(refused)
    assert not isinstance(failure.value, GrammarExhausted)
