"""Whether the alternatives of a `oneOf` exclude each other, as those do that generators write.

Then no value fits two of them, and "one of" is the same as "any of".
"""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from app.serving.constrained.json_references import resolve

_MOST = 64  # alternatives that are compared, each with each
_LONGEST_CHAIN = 8  # references from one to the next


def exclude_each_other(root: Any, options: Sequence[Any]) -> bool:
    """True only if it is certain. `options` are schemas within `root`."""
    known = [_target(root, option) for option in options]
    values = [listed for listed in map(_values, known) if listed is not None]
    if len(values) == len(known) and len(frozenset().union(*values)) == sum(map(len, values)):
        return True
    return len(known) <= _MOST and all(_exclude(root, one, other) for one, other in combinations(known, 2))


def _exclude(root: Any, one: Any, other: Any) -> bool:
    if one is False or other is False:
        return True
    if not isinstance(one, Mapping) or not isinstance(other, Mapping):
        return False
    if not _kinds(one) & _kinds(other):
        return True
    values, others = _values(one), _values(other)
    if values is not None and others is not None and not values & others:
        return True
    return _lacks(one, other) or _lacks(other, one) or _differ(root, one, other)


def _differ(root: Any, one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both require a property with different values: a discriminator."""
    if not (_is_object(one) and _is_object(other)):
        return False
    for name in _required(one) & _required(other):
        values = _values(_target(root, _properties(one).get(name)))
        others = _values(_target(root, _properties(other).get(name)))
        if values is not None and others is not None and not values & others:
            return True
    return False


def _lacks(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether one requires a property that the other does not allow."""
    if not (_is_object(one) and _is_object(other)) or other.get("additionalProperties") is not False:
        return False
    return "patternProperties" not in other and bool(_required(one) - set(_properties(other)))


def _target(root: Any, schema: Any) -> Any:
    """What a schema that is a reference refers to. Other keywords beside it can only allow less."""
    for _ in range(_LONGEST_CHAIN):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            break
        if not schema["$ref"].startswith("#"):
            return {}
        try:
            schema = resolve(root, schema["$ref"])
        except LookupError:
            return {}
    return schema


def _kinds(schema: Mapping[str, Any]) -> frozenset[str]:
    """The types of its values, all if it does not say."""
    values = _values(schema)
    if values is not None:
        return frozenset(_kind(json.loads(value)) for value in values)
    kinds = schema.get("type", ["null", "boolean", "number", "string", "array", "object"])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    return frozenset("number" if kind == "integer" else str(kind) for kind in kinds)


def _kind(value: Any) -> str:
    """Of a plain value."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    return "string" if isinstance(value, str) else "number"


def _values(schema: Any) -> frozenset[str] | None:
    """The JSON texts of its values, None if they are not listed or not plain. 1 and 1.0 are one value."""
    if not isinstance(schema, Mapping):
        return None
    listed = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(listed, list) or any(isinstance(value, list | Mapping) for value in listed):
        return None
    return frozenset(json.dumps(_number(value)) for value in listed)


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _is_object(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "object"


def _required(schema: Mapping[str, Any]) -> frozenset[str]:
    names = schema.get("required")
    return frozenset(name for name in names if isinstance(name, str)) if isinstance(names, list) else frozenset()


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    properties = schema.get("properties", {})
    return properties if isinstance(properties, Mapping) else {}
