"""Tools for tests, and what an answer's events say about calls."""

import json
from collections.abc import Iterable

from jsonschema import validate

from app.contract.events import ServiceEvent, ToolCallEvent
from app.contract.requests import Tool, ToolCall

WEATHER = Tool(
    "get_weather",
    "The weather in a city.",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string", "maxLength": 20},
            "unit": {"enum": ["celsius", "fahrenheit"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 7},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
    },
)
ADD = Tool(
    "add",
    "Adds numbers.",
    {
        "$defs": {"number": {"type": "number", "minimum": -1000, "maximum": 1000}},
        "properties": {"numbers": {"type": "array", "items": {"$ref": "#/$defs/number"}, "maxItems": 3}},
        "required": ["numbers"],
        "additionalProperties": False,
    },
)
TOOLS = (WEATHER, ADD)


def calls_of(events: Iterable[ServiceEvent]) -> list[ToolCall]:
    """The calls, put together as a client does. Fails when their pieces are not in order."""
    calls: list[ToolCall] = []
    for event in events:
        if not isinstance(event, ToolCallEvent):
            continue
        if event.id is not None:
            assert event.index == len(calls)
            assert event.name is not None
            calls.append(ToolCall(event.id, event.name, event.arguments))
        else:
            assert event.index == len(calls) - 1
            call = calls[-1]
            calls[-1] = ToolCall(call.id, call.name, call.arguments + event.arguments)
    return calls


def assert_valid(calls: Iterable[ToolCall]) -> None:
    """Each is of one of `TOOLS`, its arguments fit, and no two have one id."""
    schemas = {tool.name: tool.parameters for tool in TOOLS}
    ids = []
    for call in calls:
        validate(json.loads(call.arguments), dict(schemas[call.name]))
        ids.append(call.id)
    assert len(set(ids)) == len(ids)
