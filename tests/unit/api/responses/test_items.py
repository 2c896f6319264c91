"""Pieces of an answer become items, one after the other, and every item that begins also ends."""

from typing import Any

from app.api.responses.items import OutputItems
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


def test_each_item_ends_before_the_next_one_begins() -> None:
    items = OutputItems()
    events: list[Any] = [event for piece in PIECES for event in items.take(piece)]
    events += items.close("incomplete")
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    told = [(event["type"].removeprefix("response."), event["output_index"]) for event in events if "item" in event]
    assert told == [(f"output_item.{kind}", index) for index in range(4) for kind in ("added", "done")]
    assert [event["delta"] for event in events if "delta" in event] == [
        "Let me ",
        "look.",
        '{"a":',
        "1}",
        "{}",
        "Done.",
    ]
    first, call, other, last = items.items
    assert first["type"] == last["type"] == "message"
    assert [part["text"] for message in (first, last) for part in message["content"]] == ["Let me look.", "Done."]
    assert call["type"] == other["type"] == "function_call"
    assert (call["call_id"], call["name"], call["arguments"]) == ("call_a", "look", '{"a":1}')
    assert (other["call_id"], other["name"], other["arguments"]) == ("call_b", "see", "{}")
    assert [item["status"] for item in items.items] == ["completed"] * 3 + ["incomplete"]
    assert len({item["id"] for item in items.items}) == 4


def test_nothing_is_closed_twice() -> None:
    items = OutputItems()
    assert list(items.close("completed")) == []
    assert list(items.take(TextEvent(""))) == []
    assert [event["type"] for event in items.add_empty_message()] == [
        "response.output_item.added",
        "response.content_part.added",
    ]
    assert list(items.close("completed"))
    assert list(items.close("completed")) == []
