"""References within a JSON schema: whether they resolve, and whether the values that they describe are finite."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_ROUNDS = 50  # of `_ending`: each reaches through every reference once


def resolve(root: Any, pointer: str) -> Any:
    """The part of `root` that `#/…` points to (RFC 6901). Raises LookupError."""
    part = root
    for step in pointer.removeprefix("#").split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(part, Mapping):
            part = part[name]
        elif isinstance(part, list) and name.isascii() and name.isdecimal():
            part = part[int(name)]
        else:
            raise LookupError(pointer)
    return part


def endless(root: Any, schemas: Sequence[Mapping[str, Any]]) -> bool:
    """Whether one of `schemas` (all schemas within `root`) requires a value that never ends.

    A schema that allows several types counts as finite. Also true for chains of references that are too long to
    follow.
    """
    ending: set[int] = set()
    for _ in range(_ROUNDS):
        before = len(ending)
        for schema in reversed(schemas):  # the inner ones first
            if id(schema) not in ending and _ends(root, schema, ending):
                ending.add(id(schema))
        if len(ending) == before:
            break
    return len(ending) < len(schemas)


def _ends(root: Any, schema: Mapping[str, Any], ending: set[int]) -> bool:
    def known(part: Any) -> bool:
        return not isinstance(part, Mapping) or id(part) in ending

    if not all(known(part) for part in _demanded(root, schema)):
        return False
    return all(
        any(known(option) for option in schema[keyword]) for keyword in ("anyOf", "oneOf") if keyword in schema
    )


def _demanded(root: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas of what every value of this schema contains."""
    if "$ref" in schema:
        yield resolve(root, schema["$ref"])
    yield from schema.get("allOf", ())
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        yield from (properties[name] for name in schema.get("required", ()) if name in properties)
    if schema.get("type") == "array":
        prefix, least = schema.get("prefixItems", []), schema.get("minItems", 0)
        yield from prefix[:least]
        if least > len(prefix) and "items" in schema:
            yield schema["items"]
