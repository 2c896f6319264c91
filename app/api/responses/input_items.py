"""The input of `/v1/responses`: a text, or items, which become the turns of a conversation.

Fields of an item that do not matter here, such as its id or status, are ignored: clients send back what they got from
this server or from another one.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, TolerantBody
from app.api.openai.bodies.chat import MOST_MESSAGES
from app.api.openai.bodies.turns import Turns, at
from app.contract.errors import InvalidRequest, UnsupportedField

_MOST_PARTS = 1024


class InputPart(TolerantBody):
    type: Literal["input_text", "output_text", "text"]
    text: str


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    if not isinstance(content, list) or len(content) > _MOST_PARTS:
        raise PydanticCustomError("content", f"must be a string or a list of up to {_MOST_PARTS} text parts")
    return [_without_refusal(part) for part in content]


def _without_refusal(part: Any) -> Any:
    """A refusal is what another model answered: a text as any other."""
    match part:
        case {"type": "refusal", "refusal": text}:
            return {"type": "output_text", "text": text}
    return part


Parts = Annotated[Items[InputPart], BeforeValidator(_as_parts)]


class InputMessage(TolerantBody):
    role: Literal["system", "developer", "user", "assistant"]
    content: Parts

    def add(self, turns: Turns, place: str) -> None:
        turns.say(self.role, _text(self.content), place)


class InputCall(TolerantBody):
    call_id: str
    name: str
    arguments: str

    def add(self, turns: Turns, place: str) -> None:
        turns.call(self.call_id, self.name, self.arguments, place)


class InputCallOutput(TolerantBody):
    call_id: str
    output: Parts

    def add(self, turns: Turns, place: str) -> None:
        turns.result(self.call_id, _text(self.output), place)


def add_input(turns: Turns, value: str | list[Any]) -> None:
    """Raises InvalidRequest, UnsupportedField."""
    if isinstance(value, str):
        turns.say("user", value, "input")
        return
    if not 0 < len(value) <= MOST_MESSAGES:
        raise InvalidRequest(f"input must have 1 to {MOST_MESSAGES} items.", param="input")
    for index, item in enumerate(value):
        place = f"input[{index}]"
        kind = _kind(item, place)
        if kind is not None:
            at(place, kind, item).add(turns, place)


def _kind(item: Any, place: str) -> type[InputMessage | InputCall | InputCallOutput] | None:
    """None for what is read over."""
    kind = item.get("type") if isinstance(item, dict) else None
    if kind is None or kind == "message":
        return InputMessage
    if kind == "function_call":
        return InputCall
    if kind == "function_call_output":
        return InputCallOutput
    if kind == "reasoning":
        return None
    if kind == "item_reference":
        raise UnsupportedField(
            f"{place} refers to an item, but this server stores none: send the item itself.", param=place
        )
    raise UnsupportedField(
        f"{place}.type is not supported. It may be message, function_call, function_call_output or reasoning.",
        param=f"{place}.type",
    )


def _text(content: list[InputPart]) -> str:
    return "\n".join(part.text for part in content)


def _typed(kind: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}} | properties,
        "required": ["type", *properties],
    }


_TEXT = {"type": "string"}
_PART = {
    "type": "object",
    "properties": {"type": {"enum": ["input_text", "output_text", "text"]}, "text": _TEXT},
    "required": ["type", "text"],
}
_REFUSAL = _typed("refusal", refusal=_TEXT)
_CONTENT = {"anyOf": [_TEXT, {"type": "array", "items": {"anyOf": [_PART, _REFUSAL]}}]}
_ROLE = {"enum": ["system", "developer", "user", "assistant"]}
_ITEM = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"enum": ["message", None]}, "role": _ROLE, "content": _CONTENT},
            "required": ["role", "content"],
        },
        _typed("function_call", call_id=_TEXT, name=_TEXT, arguments=_TEXT),
        _typed("function_call_output", call_id=_TEXT, output=_CONTENT),
        _typed("reasoning"),
    ]
}
INPUT: dict[str, Any] = {
    "anyOf": [_TEXT, {"type": "array", "items": _ITEM, "minItems": 1, "maxItems": MOST_MESSAGES}]
}
"""The JSON schema of the field."""
