"""Which JSON schemas can be enforced. Others are refused, with the name of the keyword.

The grammar library refuses most of what it cannot enforce, but its messages quote the schema, and it accepts a few
keywords whose answers a validator would reject. So schemas are checked here first. The tests in
`tests/unit/serving/constrained/test_grammar.py` validate answers with the `jsonschema` package.
"""

import copy
import json
from collections.abc import Iterator, Mapping
from typing import Any

from app.contract.errors import InvalidRequest
from app.serving.constrained.json_keywords import LONGEST_COUNTED, REFUSED, RULES, is_count
from app.serving.constrained.json_references import endless, resolve

MOST_BYTES = 131_072
DEEPEST = 48  # levels of JSON: far below where the library's own recursion ends (128)

_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMAS_IN_LIST = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMA = ("items", "additionalProperties")


def schema_text(schema: Mapping[str, Any], param: str) -> str:
    """The schema as JSON text of at most MOST_BYTES. Raises InvalidRequest. `param` is the field that holds it."""
    _check_depth(schema, param)
    try:
        text = json.dumps(schema, allow_nan=False)
    except ValueError:
        raise InvalidRequest("The JSON schema has a number that JSON cannot represent.", param=param) from None
    if len(text) > MOST_BYTES:
        raise InvalidRequest(f"The JSON schema is larger than {MOST_BYTES} bytes.", param=param)
    return text


def check_schema(schema: Mapping[str, Any], param: str) -> None:
    """Raises InvalidRequest for a schema that cannot be enforced; the message names the keyword and quotes nothing
    else. `schema_text` has taken it."""
    parts = list(_walk(schema))
    if not all(isinstance(part, Mapping | bool) for part in parts):
        raise InvalidRequest("A part of the JSON schema is neither an object nor a boolean.", param=param)
    objects = [part for part in parts if isinstance(part, Mapping)]
    for part in objects:
        for keyword, value in part.items():
            _check(keyword, value, param, root=part is schema)
    _check_references(schema, objects, param)


def without_long_counts(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema without bounds of lengths that are too high to be enforced. `schema_text` has taken it."""
    copied: dict[str, Any] = copy.deepcopy(dict(schema))
    for part in _walk(copied):
        if not isinstance(part, dict):
            continue
        for keyword in ("minLength", "maxLength"):
            if is_count(part.get(keyword)) and part[keyword] > LONGEST_COUNTED:
                del part[keyword]
    return copied


def unsupported(keyword: str, param: str, why: str = "") -> InvalidRequest:
    """The error for a schema. `why` follows the keyword in the message, and must not quote the schema."""
    reason = f"{keyword} {why}" if why else keyword
    return InvalidRequest(f"The JSON schema cannot be enforced: {reason}.", param=param)


def _check_depth(value: Any, param: str) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise InvalidRequest(f"The JSON schema is nested deeper than {DEEPEST} levels.", param=param)
        level = [child for item in level for child in _children(item) if isinstance(child, Mapping | list | tuple)]


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value


def _walk(schema: Any) -> Iterator[Any]:
    """The schema and every schema in it, wherever the standard expects one. Depth was checked before."""
    yield schema
    if isinstance(schema, Mapping):
        for keyword, value in schema.items():
            for part in _parts(keyword, value):
                yield from _walk(part)


def _parts(keyword: str, value: Any) -> Iterator[Any]:
    """The schemas that a keyword's value holds. A value of the wrong form holds none: `_check` refuses it."""
    if keyword in _SCHEMAS_BY_NAME:
        if isinstance(value, Mapping):
            yield from value.values()
    elif keyword in _SCHEMAS_IN_LIST:
        if isinstance(value, list):
            yield from value
    elif keyword in _SCHEMA and not isinstance(value, list):
        yield value


def _check(keyword: str, value: Any, param: str, *, root: bool) -> None:
    """Refuse keywords that are not enforced, and values that the standard does not allow. Unknown keywords are
    annotations by the standard, and are ignored."""
    if keyword in REFUSED:
        raise unsupported(keyword, param)
    if keyword == "$id" and not root:
        raise unsupported("$id", param, "is supported at the root only")
    rule = RULES.get(keyword)
    if rule is not None and not rule[0](value):
        raise unsupported(keyword, param, rule[1])


def _check_references(schema: Any, objects: list[Mapping[str, Any]], param: str) -> None:
    known = {id(part) for part in objects}
    for part in objects:
        try:
            target = resolve(schema, part.get("$ref", "#"))
        except LookupError:
            raise unsupported("$ref", param, "points to nothing") from None
        if not isinstance(target, bool) and id(target) not in known:
            raise unsupported("$ref", param, "does not point to a schema")
    if endless(schema, objects):
        raise unsupported("$ref", param, "requires a value that never ends, or is a chain of too many references")
