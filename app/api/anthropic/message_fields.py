"""The turns of `/v1/messages`: texts, or lists of blocks, which become the turns of a conversation.

Fields of a block that do not matter here, such as its cache control, are ignored, and so is what a model thought: it
is no part of the conversation.
"""

import json
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.api.http.body_model import TolerantBody
from app.api.http.field_json_schemas import accepts
from app.api.openai.bodies.turns import Turns, at
from app.contract.errors import InvalidRequest, UnsupportedField

_MOST_BLOCKS = 1024
_THOUGHTS = ("thinking", "redacted_thinking")
_KINDS = {"user": ("text", "tool_result"), "assistant": ("text", "tool_use", *_THOUGHTS), "system": ("text",)}


def _as_blocks(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list) or len(content) > _MOST_BLOCKS:
        raise PydanticCustomError("content", f"must be a string or a list of up to {_MOST_BLOCKS} blocks")
    return content


def _typed(kind: str, required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}} | properties,
        "required": ["type", *required],
    }


def _content(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [_STRING, {"type": "array", "items": {"anyOf": [*blocks]}, "maxItems": _MOST_BLOCKS}]}


_STRING = {"type": "string"}
_TEXT = _typed("text", ["text"], text=_STRING)
TEXT_BLOCKS = _content(_TEXT)
"""The JSON schema of a text, or text blocks."""

_RESULT = _typed("tool_result", ["tool_use_id"], tool_use_id=_STRING, content=TEXT_BLOCKS)
_USE = _typed("tool_use", ["id", "name"], id=_STRING, name=_STRING, input={"type": "object"})
_CONTENT = _content(_TEXT, _RESULT, _USE, *(_typed(kind, []) for kind in _THOUGHTS))

ListOfBlocks = Annotated[list[Any], BeforeValidator(_as_blocks)]


class ToolUseBlock(TolerantBody):
    id: str
    name: str
    input: dict[str, Any] = Field(default_factory=dict)


class ToolResultBlock(TolerantBody):
    tool_use_id: str
    content: ListOfBlocks = Field(default_factory=list)
    is_error: bool = False


class TurnFields(TolerantBody):
    role: Literal["user", "assistant", "system"]
    content: Annotated[ListOfBlocks, accepts(_CONTENT)] = Field(
        default_factory=list,
        description="A string, or a list of blocks: texts, calls of tools in an assistant's turn, and their results "
        "in a user's. Absent: nothing was said.",
    )

    def add(self, turns: Turns, place: str) -> None:
        """Raises InvalidRequest, UnsupportedField."""
        words: list[str] = []
        said = False
        for number, block in enumerate(self.content):
            spot = f"{place}.content[{number}]"
            kind = _kind(block, spot, _KINDS[self.role])
            if kind == "text":
                words.append(_text(block, spot))
            elif kind not in _THOUGHTS:
                self._say(turns, words, place)
                said, words = True, []
                _add_tool_block(turns, kind, block, spot)
        if words or not said:
            self._say(turns, words or [""], place)

    def _say(self, turns: Turns, words: list[str], place: str) -> None:
        if words:
            turns.say(self.role, "\n".join(words), place)


def text_of(blocks: list[Any], place: str) -> str:
    """The text of text blocks. Raises InvalidRequest, UnsupportedField."""
    texts = []
    for number, block in enumerate(blocks):
        spot = f"{place}[{number}]"
        _kind(block, spot, ("text",))
        texts.append(_text(block, spot))
    return "\n".join(texts)


def _add_tool_block(turns: Turns, kind: str, block: Any, spot: str) -> None:
    if kind == "tool_use":
        use = at(spot, ToolUseBlock, block)
        turns.call(use.id, use.name, json.dumps(use.input, ensure_ascii=False), spot)
        return
    result = at(spot, ToolResultBlock, block)
    text = text_of(result.content, f"{spot}.content")
    turns.result(result.tool_use_id, f"Error: {text}" if result.is_error else text, spot)


def _kind(block: Any, spot: str, kinds: tuple[str, ...]) -> str:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind in kinds:
        return str(kind)
    if not isinstance(block, dict):
        raise InvalidRequest(f"{spot} must be an object.", param=spot)
    raise UnsupportedField(f"{spot}.type is not supported. Here it may be {_either(kinds)}.", param=f"{spot}.type")


def _either(kinds: tuple[str, ...]) -> str:
    *others, last = kinds
    return f"{', '.join(others)} or {last}" if others else last


def _text(block: dict[str, Any], spot: str) -> str:
    """Read by hand: a conversation has thousands of them."""
    text = block.get("text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{spot}.text must be a string.", param=f"{spot}.text")
    return text
