"""Tools, the choice among them and the form of the text, as `/v1/responses` has them: flat where a chat nests."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from app.api.http.body_model import NullableBody
from app.api.http.field_json_schemas import accepts
from app.api.openai.bodies.message_fields import NAME
from app.api.openai.bodies.sampling_fields import Off
from app.api.openai.bodies.tool_fields import FunctionFields, JsonSchemaFields, ToolFields
from app.contract.errors import InvalidRequest
from app.contract.requests import JsonFormat, ToolChoice


class FlatToolFields(FunctionFields):
    """`strict` is false by default: OpenAI's default rewrites schemas so that they can be enforced."""

    type: Literal["function"]
    defer_loading: Off = Field(False, description="Only false: the model is told about every tool.")

    @model_validator(mode="before")
    @classmethod
    def _only_functions(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("type", "function") != "function":
            raise PydanticCustomError("tool", "must have the type function: this server runs no tools of its own")
        return value

    def nested(self) -> ToolFields:
        return ToolFields(type="function", function=self)


def _tool_choice(value: Any) -> ToolChoice:
    if value in ("none", "auto", "required"):
        return ToolChoice(value)
    match value:
        case {"type": "function", "name": str(name), **others} if not others:
            return ToolChoice("required", name)
    raise PydanticCustomError("tool_choice", 'must be "none", "auto", "required" or {"type": "function", "name": …}')


_NAMED = {
    "type": "object",
    "properties": {"type": {"const": "function"}, "name": {"type": "string", "pattern": NAME}},
    "required": ["type", "name"],
    "additionalProperties": False,
}
FlatToolChoice = Annotated[
    ToolChoice,
    BeforeValidator(_tool_choice),
    accepts({"anyOf": [{"enum": ["none", "auto", "required"]}, _NAMED]}),
]


class TextFormat(JsonSchemaFields):
    type: Literal["text", "json_object", "json_schema"]

    def format(self) -> JsonFormat | None:
        """None for text. Raises InvalidRequest."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            param = "text.format.schema"
            raise InvalidRequest(
                f"{param} is required with the type json_schema, and allowed with no other.", param=param
            )
        if self.json_schema is not None:
            return JsonFormat(self.json_schema)
        return JsonFormat() if self.type == "json_object" else None


class TextFields(NullableBody):
    format: TextFormat | None = Field(
        None, description="Text, any JSON object, or JSON of a schema. The answer fits it, unless it is cut off."
    )
    verbosity: Literal["medium"] = Field("medium", description="Only medium: the model has no such setting.")
