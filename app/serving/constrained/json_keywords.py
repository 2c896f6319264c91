"""Which keywords of a JSON schema are enforced, with which values."""

from collections.abc import Callable, Mapping
from typing import Any

from app.serving.constrained.json_pattern import is_portable

_SAFE_INTEGER = 2**53
MOST_PROPERTIES = 1000  # of one object: the time to compile optional ones grows with their square
LONGEST_COUNTED = 8000
"""Characters of a string up to which its length is enforced: the states that counting takes are a request's own, but
limited (`app/engine/grammars.py`)."""

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})

REFUSED = frozenset(
    {
        "not", "if", "then", "else", "contains", "minContains", "maxContains", "propertyNames", "dependentRequired",
        "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties", "additionalItems",
        "$dynamicRef", "$recursiveRef", "$anchor", "$dynamicAnchor", "$recursiveAnchor", "x-guidance",
    }
)  # fmt: skip  # one name a line would be a page

_TYPES = frozenset({"null", "boolean", "integer", "number", "string", "array", "object"})
_DIALECTS = ("json-schema.org/draft/2020-12/", "json-schema.org/draft/2019-09/", "json-schema.org/draft-07/")


def is_count(value: Any) -> bool:
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


Rule = tuple[Callable[[Any], bool], str]
"""Whether a value is enforced, and what the refusal says of one that is not. It follows the keyword."""

_COUNT: Rule = (is_count, "must be a whole number from 0 to 2**53")
_LENGTH: Rule = (
    lambda value: is_count(value) and value <= LONGEST_COUNTED,
    f"must be a whole number from 0 to {LONGEST_COUNTED}: longer strings are not counted",
)
_BOUND: Rule = (_is_bound, "must be a number from -2**53 to 2**53")
_LIST: Rule = (lambda value: isinstance(value, list) and bool(value), "must be a list that is not empty")
_PROPERTIES: Rule = (_are_properties, f"must be an object of at most {MOST_PROPERTIES} members")
_PORTABLE = (
    "must be a regular expression of at most 2000 characters that means the same in ECMA-262, Rust and Python: no "
    "look-around, flags, named groups, word boundaries, \\D, \\W or sets in sets"
)

RULES: Mapping[str, Rule] = {
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
    "minProperties": (lambda value: is_count(value) and value <= 1, "is enforced for 0 and 1 only"),
    "minimum": _BOUND,
    "maximum": _BOUND,
    "exclusiveMinimum": _BOUND,
    "exclusiveMaximum": _BOUND,
    # Validators divide floats: 0.07 / 0.01 is not whole.
    "multipleOf": (lambda value: is_count(value) and value > 0, "is enforced for whole numbers only"),
    "uniqueItems": (lambda value: value is False, "is not supported"),
    "$ref": (_is_local, "must point into the schema itself"),
    "$schema": (_is_dialect, "must be draft 7, 2019-09 or 2020-12"),
}
