"""Strict models of request bodies, and the errors for bodies that do not fit them."""

from typing import Annotated, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast, ValidationError, model_validator

from app.contract.errors import InvalidRequest, UnsupportedField

_LONGEST_NAME = 64  # characters of a client's field name that an error repeats


class _FailFast(FailFast):
    __hash__ = object.__hash__  # of an annotation in a union, which pydantic's own lacks


Item = TypeVar("Item")
Items = Annotated[list[Item], _FailFast()]
"""A list that is read up to its first wrong item: errors for a million of them would take seconds and gigabytes."""


class Body(BaseModel):
    """Strict: unknown fields and values that would have to be converted are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def is_absent(cls, name: str, value: Any, *, known: bool) -> bool:  # noqa: ARG003  # for classes below
        """Whether a field with this value counts as absent. `known`: it is one of the body's own."""
        return False

    @classmethod
    def parse(cls, value: dict[str, Any]) -> Self:
        """Raises InvalidRequest, UnsupportedField. No message repeats a value."""
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise _refusal(error) from None

    @model_validator(mode="before")
    @classmethod
    def _to_known_fields(cls, value: Any) -> Any:
        """Of unknown fields only the first: pydantic would make an error for each."""
        if not isinstance(value, dict):
            return value
        known = {field.alias or name: field.annotation for name, field in cls.model_fields.items()}
        present = {
            name: _whole(item) if known.get(name) in (int, int | None) else item
            for name, item in value.items()
            if not cls.is_absent(name, item, known=name in known)
        }
        unknown = [name for name in present if name not in known]
        if len(unknown) > 1:
            return {name: item for name, item in present.items() if name in known} | {unknown[0]: None}
        return present


class NullableBody(Body):
    """For OpenAI's clients: null means that the field is absent, for every field."""

    @classmethod
    def is_absent(cls, name: str, value: Any, *, known: bool) -> bool:  # noqa: ARG003  # for classes below
        return value is None


class TolerantBody(NullableBody):
    """For what was said in the past: unknown fields describe it, and are ignored."""

    model_config = ConfigDict(extra="ignore")


def whole_items(value: Any) -> Any:
    """Of a list what `_whole` makes of each, for lists that may be long."""
    if isinstance(value, list) and float in set(map(type, value)):
        return [_whole(item) for item in value]
    return value


def _whole(value: Any) -> Any:
    """A float without a fraction is a whole number, in JSON too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_SAID: dict[str, str] = {
    "missing": "is required",
    "string_type": "must be a string",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
    "int_type": "must be an integer",
    "int_parsing_size": "is too large",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "literal_error": "must be {expected}",
}


def _refusal(error: ValidationError) -> InvalidRequest:
    first = error.errors(include_url=False, include_input=False)[0]
    field = _path(first["loc"])
    if first["type"] in ("extra_forbidden", "none_required"):
        return UnsupportedField(f"The field {field} is not supported.", param=field)
    said = _SAID.get(first["type"])
    predicate = _bound(first["msg"]) if said is None else said.format(**first.get("ctx", {}))
    return InvalidRequest(f"{field} {predicate}.", param=field)


def _path(parts: tuple[int | str, ...]) -> str:
    """As in JavaScript: messages[0].content."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in parts)
    return path.removeprefix(".")


def _bound(message: str) -> str:
    """From pydantic's message for a bound: "Input should be less than or equal to 5"."""
    return message.replace("Input should be", "must be")


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:_LONGEST_NAME])
