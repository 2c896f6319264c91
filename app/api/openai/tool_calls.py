"""Tool calls in OpenAI's form: whole, and piece by piece."""

from collections.abc import Iterable

from app.api.openai.responses import CalledFunction, CalledFunctionPiece, CalledTool, CalledToolPiece
from app.contract.events import ToolCallEvent


def whole_calls(events: Iterable[ToolCallEvent]) -> list[CalledTool]:
    calls: dict[int, CalledTool] = {}
    for event in events:
        if event.index in calls:
            calls[event.index]["function"]["arguments"] += event.arguments
        else:
            function: CalledFunction = {"name": event.name or "", "arguments": event.arguments}
            calls[event.index] = {"id": event.id or "", "type": "function", "function": function}
    return [calls[index] for index in sorted(calls)]


def call_piece(event: ToolCallEvent) -> CalledToolPiece:
    if event.id is None:
        return {"index": event.index, "function": {"arguments": event.arguments}}
    function: CalledFunctionPiece = {"name": event.name or "", "arguments": event.arguments}
    return {"index": event.index, "id": event.id, "type": "function", "function": function}
