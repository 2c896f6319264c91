"""Tool calls in OpenAI's shapes: whole, and piece by piece."""

from collections.abc import Iterable
from typing import Any

from app.contract.messages import ToolCallEvent


def whole_calls(events: Iterable[ToolCallEvent]) -> list[dict[str, Any]]:
    calls: dict[int, dict[str, Any]] = {}
    for event in events:
        if event.index in calls:
            calls[event.index]["function"]["arguments"] += event.arguments
        else:
            function = {"name": event.name, "arguments": event.arguments}
            calls[event.index] = {"id": event.id, "type": "function", "function": function}
    return [calls[index] for index in sorted(calls)]


def call_piece(event: ToolCallEvent) -> dict[str, Any]:
    """What identifies the call is in its first piece alone."""
    if event.id is None:
        return {"index": event.index, "function": {"arguments": event.arguments}}
    function = {"name": event.name, "arguments": event.arguments}
    return {"index": event.index, "id": event.id, "type": "function", "function": function}
