"""A JSON schema as text: how large it may be, and where it comes from, which errors say."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from app.contract.errors import InvalidRequest

MOST_BYTES = 131_072
DEEPEST = 48  # levels of JSON: far below where the library's own recursion ends (128)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a schema comes from, for errors: the field, and the tool if it is that of one."""

    param: str
    tool: str | None = None

    @property
    def name(self) -> str:
        return "The JSON schema" if self.tool is None else f"The JSON schema of the tool {self.tool}"

    def refusal(self, said: str) -> InvalidRequest:
        """`said` follows the schema's name, and must not quote its values."""
        return InvalidRequest(f"{self.name} {said}.", param=self.param)


def schema_text(schema: Mapping[str, Any], origin: Origin) -> str:
    """The schema as JSON text of at most MOST_BYTES. Raises InvalidRequest."""
    _check_depth(schema, origin)
    try:
        text = json.dumps(schema, allow_nan=False)
    except ValueError:
        raise origin.refusal("has a number that JSON cannot represent") from None
    if len(text) > MOST_BYTES:
        raise origin.refusal(f"is larger than {MOST_BYTES} bytes")
    return text


def _check_depth(value: Any, origin: Origin) -> None:
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise origin.refusal(f"is nested deeper than {DEEPEST} levels")
        level = [child for item in level for child in _children(item) if isinstance(child, Mapping | list | tuple)]


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple):
        yield from value
