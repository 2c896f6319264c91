"""The turns of a conversation in OpenAI's form."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, NullableBody
from app.api.http.field_json_schemas import CONTENT, accepts
from app.api.http.read_json import parse_object
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
    if content and all(map(_is_text_part, content)):
        # As they are joined in any case: many parts of many turns would take a second, one by one.
        return [{"type": "text", "text": "\n".join(part["text"] for part in content)}]
    return content


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


class TextPart(NullableBody):
    type: Literal["text"]
    text: str


class FunctionCall(NullableBody):
    name: str = Field(pattern=NAME)
    arguments: str = Field(description="JSON text of an object.")


class CallFields(NullableBody):
    id: str = Field(min_length=1, max_length=_LONGEST_ID)
    type: Literal["function"] = "function"
    function: FunctionCall


class MessageFields(NullableBody):
    """`name` is accepted in a tool's turn only, where it repeats what `tool_call_id` says: no served model's chat
    template has a place for the names of speakers."""

    role: Literal["system", "developer", "user", "assistant", "tool"] = Field(
        description="developer is another name of system."
    )
    content: Annotated[Items[TextPart] | None, BeforeValidator(_as_parts), accepts(CONTENT)] = Field(
        None, description="A string, or a list of text parts, which are joined by line breaks."
    )
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
        None, max_length=_LONGEST_ID, description="In a tool's turn only: the function's name again."
    )

    def message(self, place: str) -> Message:
        """`place` names this turn in errors. Raises InvalidRequest."""
        self._refuse_fields_of_other_roles(place)
        text = "\n".join(part.text for part in self.content or ())
        if self.role == "user" and not text:
            raise InvalidRequest(f"{place}.content must not be empty.", param=f"{place}.content")
        calls = [_tool_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(self.tool_calls)]
        role = "system" if self.role == "developer" else self.role
        return Message(role, text, tuple(calls), self.tool_call_id)

    def _refuse_fields_of_other_roles(self, place: str) -> None:
        allowed = {
            "tool_calls": self.role == "assistant" or not self.tool_calls,
            "tool_call_id": (self.role == "tool") == (self.tool_call_id is not None),
            "name": self.role == "tool" or self.name is None,
            "content": self.content is not None or (self.role == "assistant" and bool(self.tool_calls)),
        }
        for field, fits in allowed.items():
            if not fits:
                missing = getattr(self, field) in (None, [])
                said = "is required" if missing else "is not supported"
                raise InvalidRequest(
                    f"{place}.{field} {said} in a turn with the role {self.role}.", param=f"{place}.{field}"
                )


def conversation(turns: Sequence[MessageFields]) -> tuple[Message, ...]:
    """Raises InvalidRequest for a turn that does not fit its role or the turns before it."""
    messages: list[Message] = []
    called: set[str] = set()
    for index, turn in enumerate(turns):
        place = f"messages[{index}]"
        message = turn.message(place)
        if message.tool_call_id is not None and message.tool_call_id not in called:
            param = f"{place}.tool_call_id"
            raise InvalidRequest(f"{param} is not the id of a call in an earlier turn.", param=param)
        called |= {call.id for call in message.tool_calls}
        messages.append(message)
    return tuple(messages)


def _tool_call(call: CallFields, place: str) -> ToolCall:
    arguments = call.function.arguments.strip() or "{}"  # some clients send nothing for a call without arguments
    try:
        parse_object(arguments.encode())
    except InvalidRequest:
        param = f"{place}.function.arguments"
        raise InvalidRequest(f"{param} must be the JSON text of an object.", param=param) from None
    return ToolCall(call.id, call.function.name, arguments)
