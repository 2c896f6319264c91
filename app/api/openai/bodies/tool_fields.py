"""The fields for tools and for the form of an answer: tools, tool_choice and response_format."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.api.http.body_model import NullableBody
from app.api.http.field_json_schemas import accepts, tool_choice
from app.api.openai.bodies.message_fields import NAME
from app.contract.errors import InvalidRequest
from app.contract.requests import JsonFormat, Tool, ToolChoice

_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}
LONGEST_DESCRIPTION = 65_536  # some agents' tools have manuals of 20,000 characters


class FunctionFields(NullableBody):
    name: str = Field(pattern=NAME)
    description: str = Field("", max_length=LONGEST_DESCRIPTION)
    parameters: dict[str, Any] = Field(
        default_factory=lambda: _NO_PARAMETERS,
        description="JSON schema of the function's arguments, an object. Absent: it takes none.",
    )
    strict: bool = Field(
        False,
        description="True refuses a schema that cannot be enforced in full. False enforces of it what can be.",
    )


class ToolFields(NullableBody):
    type: Literal["function"]
    function: FunctionFields

    def tool(self) -> Tool:
        return Tool(self.function.name, self.function.description, self.function.parameters, self.function.strict)


def _tool_choice(value: Any) -> ToolChoice:
    if value in ("none", "auto", "required"):
        return ToolChoice(value)
    match value:
        case {"type": "function", "function": {"name": str(name), **others}, **more} if not others and not more:
            return ToolChoice("required", name)
    raise PydanticCustomError(
        "tool_choice", 'must be "none", "auto", "required" or {"type": "function", "function": {"name": …}}'
    )


ToolChoiceField = Annotated[ToolChoice, BeforeValidator(_tool_choice), accepts(tool_choice(NAME))]


def tools_of(fields: list[ToolFields]) -> tuple[Tool, ...]:
    """Raises InvalidRequest when two have one name."""
    tools = tuple(field.tool() for field in fields)
    if len({tool.name for tool in tools}) != len(tools):
        raise InvalidRequest("The names of tools must be different.", param="tools")
    return tools


def refuse_choice_without_tools(choice: ToolChoice, tools: tuple[Tool, ...]) -> None:
    """Raises InvalidRequest when a call is required and there is no tool for it."""
    if choice.mode == "required" and not tools:
        raise InvalidRequest("tool_choice requires a call, but there are no tools.", param="tool_choice")
    if choice.name is not None and choice.name not in {tool.name for tool in tools}:
        raise InvalidRequest("tool_choice names a function that is not in tools.", param="tool_choice")


class JsonSchemaFields(NullableBody):
    name: str = Field("", pattern=NAME, description="Without effect: the model is not told the schema.")
    description: str = Field("", max_length=LONGEST_DESCRIPTION, description="Without effect, as the name.")
    json_schema: dict[str, Any] | None = Field(
        None, alias="schema", description="A JSON schema. An unsupported keyword is a 400 that names it."
    )
    strict: bool = Field(True, description="Without effect: answers always fit their schema.")


class ResponseFormatFields(NullableBody):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFields | None = None

    def format(self) -> JsonFormat | None:
        """None for text. Raises InvalidRequest."""
        if (self.type == "json_schema") != (self.json_schema is not None):
            param = "response_format.json_schema"
            raise InvalidRequest(
                f"{param} is required with the type json_schema, and allowed with no other.", param=param
            )
        if self.json_schema is None:
            return JsonFormat() if self.type == "json_object" else None
        if self.json_schema.json_schema is None:
            param = "response_format.json_schema.schema"
            raise InvalidRequest(f"{param} is required.", param=param)
        return JsonFormat(self.json_schema.json_schema)
