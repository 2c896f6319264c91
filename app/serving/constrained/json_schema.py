"""Which JSON schemas can be enforced. Others are refused, with the name of the keyword.

The grammar library refuses most of what it cannot enforce, but its messages quote the schema, and it accepts a few
keywords whose answers a validator would reject. So schemas are checked here first. The tests in
`tests/unit/serving/constrained/test_grammar.py` validate answers with the `jsonschema` package.
"""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from app.contract.errors import InvalidRequest
from app.serving.constrained.json_pattern import is_portable
from app.serving.constrained.json_references import endless, resolve

MOST_BYTES = 131_072
DEEPEST = 48  # levels of JSON: far below where the library's own recursion ends (128)
MOST_PROPERTIES = 1000  # of one object: the time to compile optional ones grows with their square
_SAFE_INTEGER = 2**53
LONGEST_COUNTED = 8000
"""Characters of a string up to which its length is enforced: the states that counting takes are a request's own, but
limited (`app/engine/grammars.py`)."""

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})

# One name a line would be a page.
_REFUSED = frozenset(
    {
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired",
        "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties", "additionalItems",
        "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "x-guidance",
    }
)  # fmt: skip

_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_DIALECTS = ("json-schema.org/draft/2020-12/", "json-schema.org/draft/2019-09/", "json-schema.org/draft-07/")

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
            if _is_count(part.get(keyword)) and part[keyword] > LONGEST_COUNTED:
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
    if keyword in _REFUSED:
        raise unsupported(keyword, param)
    if keyword == "$id" and not root:
        raise unsupported("$id", param, "is supported at the root only")
    rule = _RULES.get(keyword)
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


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _SAFE_INTEGER


def _is_bound(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _SAFE_INTEGER


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) else [value]
    return bool(kinds) and all(isinstance(kind, str) and kind in _TYPES for kind in kinds)


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _are_properties(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) <= MOST_PROPERTIES


def _are_patterns(value: Any) -> bool:
    return _are_properties(value) and all(is_portable(pattern) for pattern in value)


def _is_local(value: Any) -> bool:
    return isinstance(value, str) and (value == "#" or value.startswith("#/"))


def _is_dialect(value: Any) -> bool:
    return isinstance(value, str) and any(dialect in value for dialect in _DIALECTS)


_Rule = tuple[Callable[[Any], bool], str]
_COUNT: _Rule = (_is_count, "must be a whole number from 0 to 2**53")
_LENGTH: _Rule = (
    lambda value: _is_count(value) and value <= LONGEST_COUNTED,
    f"must be a whole number from 0 to {LONGEST_COUNTED}: longer strings are not counted",
)
_BOUND: _Rule = (_is_bound, "must be a number from -2**53 to 2**53")
_LIST: _Rule = (lambda value: isinstance(value, list) and bool(value), "must be a list that is not empty")
_PROPERTIES: _Rule = (_are_properties, f"must be an object of at most {MOST_PROPERTIES} members")
_PORTABLE = (
    "must be a regular expression of at most 2000 characters that means the same in ECMA-262, Rust and Python: no "
    "look-around, flags, named groups, word boundaries, \\D, \\W or sets in sets"
)

_RULES: dict[str, _Rule] = {
    "type": (_is_type, "must be one or more of JSON schema's types"),
    "enum": _LIST,
    "anyOf": _LIST,
    "oneOf": _LIST,
    "allOf": _LIST,
    "prefixItems": _LIST,
    "items": (lambda value: isinstance(value, Mapping | bool), "must be a schema; a list of them is prefixItems"),
    "properties": _PROPERTIES,
    "$defs": _PROPERTIES,
    "definitions": _PROPERTIES,
    "patternProperties": (_are_patterns, _PORTABLE),
    "pattern": (lambda value: isinstance(value, str) and is_portable(value), _PORTABLE),
    "format": (
        lambda value: isinstance(value, str) and value in FORMATS,
        f"is enforced for {', '.join(sorted(FORMATS))} only",
    ),
    "required": (_is_text_list, "must be a list of names"),
    "minLength": _LENGTH,
    "maxLength": _LENGTH,
    "minItems": _COUNT,
    "maxItems": _COUNT,
    "maxProperties": _COUNT,
    # The grammar may repeat a key, which counts once, so two different keys cannot be guaranteed.
    "minProperties": (lambda value: _is_count(value) and value <= 1, "is enforced for 0 and 1 only"),
    "minimum": _BOUND,
    "maximum": _BOUND,
    "exclusiveMinimum": _BOUND,
    "exclusiveMaximum": _BOUND,
    # Validators divide floats: 0.07 / 0.01 is not whole.
    "multipleOf": (lambda value: _is_count(value) and value > 0, "is enforced for whole numbers only"),
    "uniqueItems": (lambda value: value is False, "is not supported"),
    "$ref": (_is_local, "must point into the schema itself"),
    "$schema": (_is_dialect, "must be draft 7, 2019-09 or 2020-12"),
}
