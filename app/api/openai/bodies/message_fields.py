"""The turns of a conversation in OpenAI's form.

What this server wrote can be sent back to it, and so can histories from elsewhere: fields that only describe a past
turn are ignored. Refused is what the model should have seen and cannot, such as a picture.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, TolerantBody
from app.api.http.field_json_schemas import ARGUMENTS, CONTENT, accepts
from app.api.openai.bodies.sampling_fields import Off
from app.contract.errors import InvalidRequest
from app.contract.requests import FUNCTION_NAME, Message, ToolCall

NAME = f"^{FUNCTION_NAME}$"

_LONGEST_ID = 256
_MOST_CALLS = 128
_MOST_PARTS = 1024


def _as_parts(content: Any) -> Any:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise PydanticCustomError("content", "must be a string or a list of text parts")
    if len(content) > _MOST_PARTS:
        raise PydanticCustomError("content", f"must have at most {_MOST_PARTS} parts")
    parts = [_plain_part(part) for part in content]
    if parts and all(map(_is_text_part, parts)):
        # As they are joined in any case: many parts of many turns would take a second, one by one.
        return [{"type": "text", "text": "\n".join(part["text"] for part in parts)}]
    return parts


def _plain_part(part: Any) -> Any:
    """A refusal is what an assistant said too."""
    if isinstance(part, dict) and part.get("type") == "refusal":
        return {"type": "text", "text": part.get("refusal")}
    return part


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _as_text(arguments: Any) -> Any:
    """Some clients keep the object itself."""
    return json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else arguments


class TextPart(TolerantBody):
    type: Literal["text"]
    text: str

    @classmethod
    def is_absent(cls, name: str, value: Any, *, known: bool) -> bool:
        """A text that is null is wrong: it is there, and nobody knows what was said."""
        return name != "text" and super().is_absent(name, value, known=known)


class FunctionCall(TolerantBody):
    name: str = Field(min_length=1, max_length=_LONGEST_ID)
    arguments: Annotated[str, BeforeValidator(_as_text), accepts(ARGUMENTS)] = Field(
        "",
        description="JSON text of an object, or the object. A call that was cut has what there is of it.",
    )


class CallFields(TolerantBody):
    id: str = Field(min_length=1, max_length=_LONGEST_ID)
    type: Literal["function"] = "function"
    function: FunctionCall


class MessageFields(TolerantBody):
    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="developer is another name of system."
    )
    content: Annotated[Items[TextPart], BeforeValidator(_as_parts), accepts(CONTENT)] = Field(
        default_factory=list,
        description="A string, or a list of text parts, which are joined by line breaks. Absent: nothing was said.",
    )
    refusal: str = Field("", description="What the assistant said in this turn instead of its content.")
    tool_calls: Items[CallFields] = Field(
        default_factory=list, max_length=_MOST_CALLS, description="The calls that the assistant made in this turn."
    )
    tool_call_id: str | None = Field(
        None,
        min_length=1,
        max_length=_LONGEST_ID,
        description="In a tool's turn: the id of the call that it answers, of an earlier turn.",
    )
    name: str | None = Field(
        None,
        max_length=_LONGEST_ID,
        description="Who speaks, or which tool answers, for models whose chat template has a place for it.",
    )
    audio: None = Field(None, description="Only null: this server does not keep what was said.")
    function_call: None = Field(None, description="Only null: calls are in tool_calls.")
    prefix: Off = Field(False, description="Only false: an answer does not continue a turn.")

    def message(self, place: str) -> Message:
        """`place` names this turn in errors. Raises InvalidRequest."""
        if self.tool_calls and self.role != "assistant":
            raise _wrong(f"{place}.tool_calls", f"is not supported in a turn with the role {self.role}")
        if self.role == "tool" and self.tool_call_id is None:
            raise _wrong(f"{place}.tool_call_id", "is required in a turn with the role tool")
        text = "\n".join(part.text for part in self.content) or self.refusal
        calls = tuple(
            ToolCall(call.id, call.function.name, _said(call.function.arguments)) for call in self.tool_calls
        )
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, calls, self.tool_call_id if self.role == "tool" else None, self.name or None)


def conversation(turns: Sequence[MessageFields]) -> tuple[Message, ...]:
    """Raises InvalidRequest for a turn that does not fit its role or the turns before it."""
    messages: list[Message] = []
    called: set[str] = set()
    for index, turn in enumerate(turns):
        place = f"messages[{index}]"
        message = turn.message(place)
        if message.tool_call_id is not None and message.tool_call_id not in called:
            raise _wrong(f"{place}.tool_call_id", "is not the id of a call in an earlier turn")
        called |= {call.id for call in message.tool_calls}
        messages.append(message)
    return tuple(messages)


def _said(arguments: str) -> str:
    """Some clients send nothing for a call without arguments."""
    return arguments if arguments.strip() else "{}"


def _wrong(field: str, said: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {said}.", param=field)
