"""Answers of Anthropic's API as its own package reads them."""

import json
from collections.abc import Iterator
from typing import Any

from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel, TypeAdapter

from tests.support.official_types import read_as

OURS = ("error",)
"""What our answers hold beside Anthropic's fields."""

_EVENTS: TypeAdapter[BaseModel] = TypeAdapter(RawMessageStreamEvent)


def read_message(body: Any) -> Message:
    return read_as(Message, body, OURS)


def read_error(body: Any) -> ErrorResponse:
    """`request_too_large` is in Anthropic's documentation, and not in its package."""
    known = body | {
        "error": body["error"] | {"type": body["error"]["type"].replace("request_too_large", "api_error")}
    }
    return read_as(ErrorResponse, known, ("param", "code"))


def read_stream(text: str) -> Iterator[Any]:
    """The events, each with the official type of its name. One that ends in an error ends with an ErrorResponse."""
    for event in text.split("\n\n")[:-1]:
        name, data = event.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        if value["type"] == "ping":
            assert value == {"type": "ping"}
        elif value["type"] == "error":
            yield read_error(value)
        else:
            yield read_as(type(_EVENTS.validate_python(value)), value, OURS)
