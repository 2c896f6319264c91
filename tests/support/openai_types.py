"""Answers as the official `openai` package reads them."""

import json
from collections.abc import Collection
from typing import Any, TypeVar

from openai import BaseModel
from openai.types.shared import ErrorObject

Parsed = TypeVar("Parsed", bound=BaseModel)

OURS = {"timings"}
"""What our answers hold beside OpenAI's fields."""


def read_as(kind: type[Parsed], data: Any, ours: Collection[str] = OURS) -> Parsed:
    """`data` by the package's type, strictly; nothing of it may be lost, and nothing unknown be in it but `ours`."""
    parsed = kind.model_validate(data, strict=True)
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == data
    assert _unknown(parsed) <= set(ours)
    return parsed


def read_error(body: Any) -> ErrorObject:
    assert list(body) == ["error"]
    return read_as(ErrorObject, body["error"])


def frames(text: str) -> list[Any]:
    """The JSON of a stream's events; heartbeats are skipped, and [DONE] must be the last one and is left out."""
    events = [event for event in text.split("\n\n") if event and not event.startswith(":")]
    assert events[-1] == "data: [DONE]"
    assert all(event.startswith("data: ") and "\n" not in event for event in events)
    return [json.loads(event.removeprefix("data: ")) for event in events[:-1]]


def _unknown(value: Any) -> set[str]:
    if isinstance(value, BaseModel):
        found = set(value.model_extra or {})
        return found.union(*(_unknown(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, list):
        return set().union(*map(_unknown, value))
    return set()
