"""Pieces of an answer become blocks, one after the other, and every block that begins also ends."""

from typing import Any

import pytest

from app.api.anthropic.blocks import Blocks, input_of
from app.contract.events import Piece, TextEvent, ToolCallEvent

PIECES: list[Piece] = [
    TextEvent("Let me "),
    TextEvent(""),
    TextEvent("look."),
    ToolCallEvent(0, "", id="call_a", name="look"),
    ToolCallEvent(0, '{"a":'),
    ToolCallEvent(0, "1}"),
    ToolCallEvent(1, "{}", id="call_b", name="see"),
    TextEvent("Done."),
]


def test_each_block_ends_before_the_next_one_begins() -> None:
    blocks = Blocks()
    events: list[Any] = [event for piece in PIECES for event in blocks.take(piece)]
    events += blocks.close()
    told = [(event["type"].removeprefix("content_block_"), event["index"]) for event in events]
    assert told == [
        *[("start", 0), ("delta", 0), ("delta", 0), ("stop", 0)],
        *[("start", 1), ("delta", 1), ("delta", 1), ("stop", 1)],
        *[("start", 2), ("delta", 2), ("stop", 2)],
        *[("start", 3), ("delta", 3), ("stop", 3)],
    ]
    assert blocks.content == [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "call_a", "name": "look", "input": {"a": 1}},
        {"type": "tool_use", "id": "call_b", "name": "see", "input": {}},
        {"type": "text", "text": "Done."},
    ]


def test_nothing_is_closed_twice() -> None:
    blocks = Blocks()
    assert list(blocks.close()) == []
    assert list(blocks.take(TextEvent(""))) == []
    assert [event["type"] for event in blocks.add_empty_text()] == ["content_block_start"]
    assert [event["type"] for event in blocks.close()] == ["content_block_stop"]
    assert list(blocks.close()) == []


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ("", {}),
        ("{", {}),
        ('{"town": "Pari', {}),
        ('{"town": "Paris", "days": [1, 2', {"town": "Paris", "days": [1, 2]}),
        ('{"a": 1, "a": 2}', {"a": 2}),
        ('{"a": 1e999}', {"unparsed": '{"a": 1e999}'}),
        ('{"a": "\\ud800"}', {"unparsed": '{"a": "\\ud800"}'}),
        ("[" * 5000, {"unparsed": "[" * 5000}),
        ("[1]", {"unparsed": "[1]"}),
    ],
    ids=lambda value: str(value)[:20],
)
def test_arguments_are_an_object_whatever_they_are(arguments: str, read: dict[str, Any]) -> None:
    assert input_of(arguments) == read
