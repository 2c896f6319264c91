"""A body that does not fit costs little: errors are made for one item, however many are wrong."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from app.api.classic.body import ClassicBody
from app.api.http.body_model import Body
from app.api.openai.bodies.chat import ChatBody
from app.api.openai.bodies.completion import CompletionBody
from app.api.openai.bodies.tokenization import ConversationToTokens, TextToTokens, TokensToText
from app.contract.errors import InvalidRequest, UnsupportedField

BODIES = [ClassicBody, ChatBody, CompletionBody, ConversationToTokens, TextToTokens, TokensToText]
TURN = {"role": "user", "content": "a"}
TOOL = {"type": "function", "function": {"name": "a"}}
MANY = 20_000

HOSTILE: list[tuple[type[Body], dict[str, Any]]] = [
    (ChatBody, {"messages": [{"role": "user", "content": [0] * MANY}]}),
    (ChatBody, {"messages": [{"role": "user", "content": [{}] * 1000}]}),
    (ChatBody, {"messages": [0] * MANY}),
    (ChatBody, {"messages": [{}] * 4000}),
    (ChatBody, {"messages": [{"role": "user", "content": [0] * 10}] * 4000}),
    (ChatBody, {"messages": [{"role": "assistant", "tool_calls": [{}] * 100}] * 4000}),
    (ChatBody, {"messages": [TURN], "tools": [{}] * 128}),
    (ChatBody, {"messages": [TURN]} | {f"x{n}": 0 for n in range(MANY)}),
    (ChatBody, {"messages": [TURN], "tools": [TOOL | {f"x{n}": 0 for n in range(MANY)}]}),
    (ChatBody, {"messages": [TURN], "stop": [0] * MANY}),
    (ChatBody, {"messages": [TURN], "logit_bias": {str(n): "x" for n in range(MANY)}}),
    (CompletionBody, {"prompt": [[0]] * MANY}),
    (CompletionBody, {"prompt": [0.5] * MANY}),
    (TokensToText, {"tokens": [-1] * MANY}),
    (TokensToText, {"tokens": [""] * MANY}),
    (ClassicBody, {"prompt": "a", "history": [0] * MANY}),
    (ClassicBody, {"prompt": "a", "history": [[0, 0]] * 4000}),
    (ClassicBody, {"prompt": "a", "history": [[0] * MANY]}),
]


@pytest.mark.parametrize(("body", "value"), HOSTILE, ids=[json.dumps(value)[:60] for _, value in HOSTILE])
def test_no_errors_are_made_after_the_first_wrong_item(body: type[Body], value: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as refusal:
        body.model_validate(value)
    assert refusal.value.error_count() <= 2  # the fields that one item lacks


PART = {"type": "text", "text": "a"}
TOO_LONG: list[tuple[type[Body], dict[str, Any], str]] = [
    (ChatBody, {"messages": [*[TURN] * MANY, 0]}, "messages must have at most 4096 items."),
    (
        ChatBody,
        {"messages": [{"role": "user", "content": [*[PART] * MANY, 0]}]},
        "messages[0].content must have at most 1024 parts.",
    ),
    (CompletionBody, {"prompt": [*["a"] * MANY, None]}, "prompt must have at most 64 prompts."),
    (ClassicBody, {"prompt": "a", "history": [*[["a", "b"]] * MANY, 0]}, "history must have at most 4096 items."),
    (
        ClassicBody,
        {"prompt": "a", "history": [[*["a"] * MANY, 0]]},
        "history[0] must have two strings, the question and the answer.",
    ),
]


@pytest.mark.parametrize(("body", "value", "said"), TOO_LONG, ids=[said for _, _, said in TOO_LONG])
def test_a_list_that_is_too_long_is_not_read_to_its_end(body: type[Body], value: dict[str, Any], said: str) -> None:
    """Its last item is wrong, which is not seen."""
    with pytest.raises(InvalidRequest) as refusal:
        body.parse(value)
    assert refusal.value.message == said


@pytest.mark.parametrize("body", BODIES)
def test_every_list_ends_at_its_first_wrong_item(body: type[Body]) -> None:
    lists = list(_lists(body.__pydantic_core_schema__))
    assert [found for found in lists if not found.get("fail_fast")] == []
    assert lists or body is TextToTokens


def _lists(schema: object) -> Iterator[dict[str, Any]]:
    if isinstance(schema, dict):
        if schema.get("type") == "list":
            yield schema
        for name, part in schema.items():
            if name not in ("metadata", "serialization"):
                yield from _lists(part)
    elif isinstance(schema, list | tuple):
        for part in schema:
            yield from _lists(part)


def test_an_unknown_field_is_named_among_many_and_beside_absent_ones() -> None:
    unknown: dict[str, Any] = {"nothing": None, "first": 1} | {f"x{n}": 1 for n in range(100)}
    with pytest.raises(UnsupportedField) as refusal:
        ChatBody.parse({"messages": [TURN]} | unknown)
    assert refusal.value.param == "first"
    with pytest.raises(UnsupportedField) as refusal:
        ChatBody.parse({"messages": [TURN], "tools": [TOOL, TOOL | unknown]})
    assert refusal.value.param == "tools[1].first"
    ChatBody.parse({"messages": [TURN | unknown]})  # of a past turn
