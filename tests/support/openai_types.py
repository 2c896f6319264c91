"""Answers of OpenAI's API as its own package reads them."""

import json
from typing import Any

from openai.types.shared import ErrorObject

from tests.support.official_types import read_as


def read_error(body: Any) -> ErrorObject:
    assert list(body) == ["error"]
    return read_as(ErrorObject, body["error"])


def frames(text: str) -> list[Any]:
    """The JSON of a stream's events; heartbeats are skipped, and [DONE] must be the last one and is left out."""
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    assert events[-1] == "data: [DONE]"
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
