"""Answers as the official packages of an API read them."""

from collections.abc import Collection
from typing import Any, TypeVar

from pydantic import BaseModel

Parsed = TypeVar("Parsed", bound=BaseModel)


def read_as(kind: type[Parsed], data: Any, ours: Collection[str] = ("timings", "stop_reason")) -> Parsed:
    """`data` by the package's type, strictly; nothing of it may be lost, and nothing unknown be in it but `ours`."""
    parsed = kind.model_validate(data, strict=True)
    assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True) == data
    assert _unknown(parsed) <= set(ours)
    return parsed


def _unknown(value: Any) -> set[str]:
    if isinstance(value, BaseModel):
        found = set(value.model_extra or {})
        return found.union(*(_unknown(getattr(value, name)) for name in type(value).model_fields))
    if isinstance(value, list):
        return set().union(*map(_unknown, value))
    return set()
