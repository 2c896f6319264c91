"""Which keywords of a JSON schema are enforced, with which values, and which say nothing where they are."""

from collections.abc import Callable, Mapping
from typing import Any

from app.serving.constrained.json_pattern import is_portable

_SAFE_INTEGER = 2**53
MOST_PROPERTIES = 1000  # of one object: the time to compile optional ones grows with their square
LONGEST_COUNTED = 8000
"""Characters of a string up to which its length is enforced: the states that counting takes are a request's own, but
limited (`app/engine/grammars/compiler.py`)."""

FORMATS = frozenset({"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"})

REFUSED = frozenset(
    {
        "not", "if", "then", "else", "uniqueItems", "contains", "minContains", "maxContains", "propertyNames",
        "dependentRequired", "dependentSchemas", "dependencies", "unevaluatedItems", "unevaluatedProperties",
        "additionalItems", "$dynamicRef", "$recursiveRef",
    }
)  # fmt: skip  # one name a line would be a page

_NUMBERS = ("integer", "number")
_ABOUT: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), ("string",)),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _NUMBERS),
    **dict.fromkeys(
        ("items", "prefixItems", "additionalItems", "unevaluatedItems", "minItems", "maxItems", "uniqueItems"),
        ("array",),
    ),
    **dict.fromkeys(("contains", "minContains", "maxContains"), ("array",)),
    **dict.fromkeys(
        ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties", "propertyNames"),
        ("object",),
    ),
    **dict.fromkeys(
        ("required", "minProperties", "maxProperties", "dependentRequired", "dependentSchemas", "dependencies"),
        ("object",),
    ),
}
"""Keywords that say something of values of these types only."""

_ANYTHING: tuple[Any, ...] = (True, {})
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "uniqueItems": (False,),
    "propertyNames": (*_ANYTHING, {"type": "string"}),  # Zod's records: every name is a string
    "unevaluatedItems": _ANYTHING,
    "unevaluatedProperties": _ANYTHING,
    "dependentRequired": ({},),
    "dependentSchemas": ({},),
    "dependencies": ({},),
    "format": (
        # How OpenAPI and schemars store a number; and what OpenAPI hides, or does not describe.
        *("int8", "int16", "int32", "int64", "int128", "int", "uint8", "uint16", "uint32", "uint64", "uint128"),
        *("uint", "float", "double", "password", "binary"),
    ),
}
"""Values with which a keyword allows everything."""

_ONLY_WITH: Mapping[str, tuple[str, ...]] = {
    "if": ("then", "else"),
    "then": ("if",),
    "else": ("if",),
    "minContains": ("contains",),
    "maxContains": ("contains",),
    "additionalItems": (),  # but beside a tuple of draft 7, which is read as prefixItems and items
}
"""Keywords that say something only beside one of these."""

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


def says_nothing(schema: Mapping[str, Any], keyword: str) -> bool:
    """Whether this keyword of the schema allows every value that the others allow."""
    value = schema[keyword]
    if any(value == neutral and type(value) is type(neutral) for neutral in _NEUTRAL.get(keyword, ())):
        return True
    if keyword in _ONLY_WITH and not any(other in schema for other in _ONLY_WITH[keyword]):
        return True
    kinds = schema.get("type")
    if keyword not in _ABOUT or not _is_type(kinds):
        return False
    return not set(_ABOUT[keyword]).intersection(kinds if isinstance(kinds, list) else [kinds])


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
    "items": (
        lambda value: isinstance(value, Mapping | bool),
        "must be a schema, or a list of them and no prefixItems",
    ),
    "properties": _PROPERTIES,
    "const": (lambda _: True, ""),
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
    "additionalProperties": (lambda value: isinstance(value, Mapping | bool), "must be a schema"),
    "$ref": (_is_local, "must point into the schema itself"),
    "$schema": (_is_dialect, "must be draft 7, 2019-09 or 2020-12"),
}
