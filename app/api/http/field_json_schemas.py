"""JSON schemas, for `/openapi.json`, of the fields whose validators accept more forms than their types."""

from typing import Any

from pydantic import GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema

PAIR: dict[str, Any] = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2}

SEED = "The same seed draws the same random numbers, and in float32 gives the same answer. Absent, -1: a random one."
"""The description of `seed`, which both APIs have."""


class OrFalsy:
    """The field also accepts every value that is false in Python."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(core), {"enum": [None, False, 0, "", [], {}]}]}


def accepts(schema: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema(schema, mode="validation")


def text_or_list(shortest: int, longest: int, most: int) -> dict[str, Any]:
    text = {"type": "string", "minLength": shortest, "maxLength": longest}
    return {"anyOf": [text, {"type": "array", "items": text, "maxItems": most}]}


def numbers_by_token(most: int, bound: float) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]{1,7}$"},
        "additionalProperties": {"type": "number", "minimum": -bound, "maximum": bound},
        "maxProperties": most,
    }


def labels(most: int, longest_name: int, longest: int) -> dict[str, Any]:
    return {
        "type": "object",
        "propertyNames": {"maxLength": longest_name},
        "additionalProperties": {"type": "string", "maxLength": longest},
        "maxProperties": most,
    }


def _token_limit(least: int) -> dict[str, Any]:
    return {"anyOf": [{"type": "integer", "minimum": least, "maximum": 1_000_000}, {"const": -1}, {"type": "null"}]}


TOKEN_LIMIT = _token_limit(1)
TOKEN_LIMIT_OR_ZERO = _token_limit(0)

CONTENT: dict[str, Any] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "maxItems": 1024,
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
        },
    ]
}

_TOKENS = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}
_TEXT = {"type": "string"}  # empty only with a suffix

PROMPT: dict[str, Any] = {
    "anyOf": [
        _TEXT,
        {"type": "array", "items": _TEXT, "minItems": 1},
        _TOKENS,
        {"type": "array", "items": _TOKENS, "minItems": 1},
    ]
}


def tool_choice(name: str) -> dict[str, Any]:
    """`name` is the pattern of a function's name."""
    function = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": name}},
        "required": ["name"],
        "additionalProperties": False,
    }
    return {
        "anyOf": [
            {"enum": ["none", "auto", "required"]},
            {
                "type": "object",
                "properties": {"type": {"const": "function"}, "function": function},
                "required": ["type", "function"],
                "additionalProperties": False,
            },
        ]
    }


ARGUMENTS: dict[str, Any] = {"anyOf": [{"type": "string"}, {"type": "object"}]}

LOGPROBS: dict[str, Any] = {
    "anyOf": [{"type": "integer", "minimum": 0, "maximum": 5}, {"const": False}, {"type": "null"}]
}
