"""Tools and the choice among them, as `/v1/messages` has them."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, NullableBody
from app.api.http.field_json_schemas import accepts
from app.api.openai.bodies.message_fields import NAME
from app.api.openai.bodies.sampling_fields import Off
from app.api.openai.bodies.tool_fields import LONGEST_DESCRIPTION, FunctionFields, ToolFields
from app.contract.requests import ToolChoice


class CustomToolFields(NullableBody):
    type: Literal["custom"] = "custom"
    name: str = Field(pattern=NAME)
    description: str = Field("", max_length=LONGEST_DESCRIPTION)
    input_schema: dict[str, Any] = Field(description="JSON schema of the tool's input, an object.")
    strict: bool = Field(
        False,
        description="True refuses a schema that cannot be enforced in full. False enforces of it what can be.",
    )
    cache_control: dict[str, Any] | None = Field(None, description="Without effect: every prefix is cached.")
    eager_input_streaming: bool | None = Field(None, description="Without effect: input always comes as it is made.")
    defer_loading: Off = Field(False, description="Only false: the model is told about every tool.")
    allowed_callers: Items[Literal["direct"]] = Field(
        default_factory=list, max_length=4, description="Only the model."
    )

    @model_validator(mode="before")
    @classmethod
    def _only_custom(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type") not in (None, "custom"):
            raise PydanticCustomError("tool", "must have the type custom: this server has no tools of its own")
        return value

    def nested(self) -> ToolFields:
        function = FunctionFields(
            name=self.name, description=self.description, parameters=self.input_schema, strict=self.strict
        )
        return ToolFields(type="function", function=function)


@dataclass(frozen=True, slots=True)
class Choice:
    tools: ToolChoice
    parallel: bool = True


_MODES: dict[str, Literal["auto", "required", "none"]] = {"auto": "auto", "any": "required", "none": "none"}


def _choice(value: Any) -> Choice:
    match value:
        case {"type": "tool", "name": str(name), **others}:
            choice = ToolChoice("required", name)
        case {"type": str(kind), **others} if kind in _MODES:
            choice = ToolChoice(_MODES[kind])
        case _:
            raise _not_a_choice()
    single = others.pop("disable_parallel_tool_use", None)
    if others or not isinstance(single, bool | None):
        raise _not_a_choice()
    return Choice(choice, parallel=not single)


def _not_a_choice() -> PydanticCustomError:
    return PydanticCustomError(
        "tool_choice",
        'must be {"type": "auto"}, {"type": "any"}, {"type": "none"} or {"type": "tool", "name": …}, perhaps with '
        "disable_parallel_tool_use",
    )


def _schema(kinds: list[str], **properties: Any) -> dict[str, Any]:
    single = {"disable_parallel_tool_use": {"type": ["boolean", "null"]}}
    return {
        "type": "object",
        "properties": {"type": {"enum": kinds}, **single, **properties},
        "required": ["type", *properties],
        "additionalProperties": False,
    }


_NAMED = _schema(["tool"], name={"type": "string", "pattern": NAME})
ToolChoiceFields = Annotated[
    Choice,
    BeforeValidator(_choice),
    accepts({"anyOf": [_schema(["auto", "any", "none"]), _NAMED]}),
]
