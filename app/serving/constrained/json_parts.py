"""Which keywords of a JSON schema hold schemas, and the schemas within a schema."""

from collections.abc import Iterator, Mapping
from typing import Any

SCHEMAS_BY_NAME = ("properties", "patternProperties")
SCHEMAS_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
SCHEMA = ("items", "additionalProperties")
"""Keywords whose values hold schemas: by name, in a list, or one."""


def modern(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a tuple of draft 7 (`items` with a list) as later drafts write it."""
    items = schema.get("items")
    if not isinstance(items, list) or "prefixItems" in schema:
        return schema
    written = {keyword: value for keyword, value in schema.items() if keyword not in ("items", "additionalItems")}
    if items:
        written["prefixItems"] = items
    if "additionalItems" in schema:
        written["items"] = schema["additionalItems"]
    return written


def parts(keyword: str, value: Any) -> Iterator[Any]:
    """The schemas that a keyword's value holds. A value of the wrong form holds none: its rule refuses it."""
    if keyword in SCHEMAS_BY_NAME:
        if isinstance(value, Mapping):
            yield from value.values()
    elif keyword in SCHEMAS_IN_LIST:
        if isinstance(value, list):
            yield from value
    elif keyword in SCHEMA and not isinstance(value, list):
        yield value


def objects(written: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A written schema and every object that is a schema in it."""
    yield written
    for keyword, value in written.items():
        for part in parts("properties" if keyword == "$defs" else keyword, value):
            if isinstance(part, Mapping):
                yield from objects(part)
