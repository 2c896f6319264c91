"""The body of `/v1/responses`. Nothing is stored, so a request holds the whole conversation."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from app.api.http.body_model import Items, NullableBody
from app.api.http.field_json_schemas import accepts
from app.api.openai.bodies.chat import MOST_TOOLS
from app.api.openai.bodies.sampling_fields import (
    AnswerBody,
    Labels,
    Off,
    SamplingFields,
    Temperature,
    TokenLimit,
    TopP,
)
from app.api.openai.bodies.tool_fields import refuse_choice_without_tools, tools_of
from app.api.openai.bodies.turns import Turns
from app.api.responses.input_items import INPUT, add_input
from app.api.responses.tool_fields import FlatToolChoice, FlatToolFields, TextFields
from app.contract.engine import ModelInfo
from app.contract.errors import UnsupportedField
from app.contract.requests import GenerationRequest, Operation, ToolChoice

NAMES = {"messages": "input", "response_format": "text.format", "max_tokens": "max_output_tokens"}
"""From a chat's fields, which the service names in errors, to those of this body."""

_MOST_INCLUDED = 16


def _input(value: Any) -> Any:
    if isinstance(value, str | list):
        return value
    raise PydanticCustomError("input", "must be a string or a list of items")


def _stored(_: Any, info: ValidationInfo) -> Any:
    raise UnsupportedField(
        f"{info.field_name} is not supported: this server stores nothing. Send the whole conversation in input.",
        param=info.field_name,
    )


Stored = Annotated[None, BeforeValidator(_stored), accepts({"type": "null"})]
"""A field that refers to something stored."""

Included = Literal[
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
"""Additions to items that no answer here has. Log-probabilities are not among them."""


class ResponseStreamOptions(NullableBody):
    include_obfuscation: Off = Field(False, description="Only false: events are not padded.")


class ResponseBody(AnswerBody):
    """A field that is missing here is refused by its name, unless its value asks for nothing."""

    input: Annotated[Any, BeforeValidator(_input), accepts(INPUT)] = Field(
        description="The user's text; or the items of a conversation, oldest first: messages, calls of functions and "
        "their outputs. Reasoning items are read over."
    )
    instructions: str | None = Field(None, description="A system turn before the input.")
    max_output_tokens: TokenLimit = Field(
        None, ge=1, le=1_000_000, description="The most new tokens. Absent and -1: as many as fit."
    )
    temperature: Temperature = None
    top_p: TopP = None
    text: TextFields = Field(TextFields(), description="The form of the answer's text.")
    tools: Items[FlatToolFields] = Field(
        default_factory=list,
        max_length=MOST_TOOLS,
        description="Functions that the model may call, with different names. No other kind of tool.",
    )
    tool_choice: FlatToolChoice = Field(
        ToolChoice(),
        description="Whether the model calls tools: never, if it wants to, at least one, or the named one.",
    )
    parallel_tool_calls: bool = Field(True, description="False: at most one call in an answer.")
    stream: bool = Field(False, description="Answer as server-sent events, with OpenAI's names and order.")
    stream_options: ResponseStreamOptions | None = Field(None, description="Without effect.")
    store: bool = Field(False, description="Without effect: nothing is stored, and every answer says so.")
    previous_response_id: Stored = Field(None, description="Refused: nothing is stored.")
    conversation: Stored = Field(None, description="Refused: nothing is stored.")
    prompt: Stored = Field(None, description="Refused: no prompts are stored.")
    background: Off = Field(False, description="Only false: the answer would have to be stored.")
    include: Items[Included] = Field(
        default_factory=list, max_length=_MOST_INCLUDED, description="Without effect: no answer has such items."
    )
    reasoning: dict[str, Any] | None = Field(None, description="Without effect: the model does not reason apart.")
    truncation: Literal["auto", "disabled"] = Field(
        "disabled", description="Without effect: an input that is too long is a 400."
    )
    top_logprobs: int = Field(0, ge=0, le=0, description="Only 0: answers have no log-probabilities here.")
    max_tool_calls: int | None = Field(
        None, ge=1, le=1_000_000, description="Without effect: it limits tools that a server runs itself."
    )
    user: str | None = Field(None, max_length=512, description="Logged, else without effect.")
    metadata: Labels = Field(default_factory=dict, description="Logged and returned, else without effect.")
    client_metadata: dict[str, Any] | None = Field(None, description="Without effect: what a program says of itself.")
    safety_identifier: str | None = Field(None, max_length=512, description="Without effect.")
    prompt_cache_key: str | None = Field(None, max_length=512, description="Without effect.")
    prompt_cache_retention: str | None = Field(None, max_length=64, description="Without effect.")
    service_tier: str | None = Field(None, max_length=64, description="Without effect: there is one tier.")

    def generation(self, request_id: str, tenant: str, served: ModelInfo) -> GenerationRequest:
        """Raises InvalidRequest, UnsupportedField, ModelNotFound."""
        self.refuse_other_models(served)
        tools = tools_of([tool.nested() for tool in self.tools])
        refuse_choice_without_tools(self.tool_choice, tools)
        turns = Turns(id_of_call="call_id", id_of_result="call_id")
        if self.instructions:
            turns.say("system", self.instructions, "instructions")
        add_input(turns, self.input)
        shared = SamplingFields(
            max_tokens=self.max_output_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stream=self.stream,
            user=self.user,
            metadata=self.metadata,
        )
        return replace(
            shared.request(request_id, Operation.CHAT, tenant, served, None),
            messages=turns.messages(),
            response_format=self.text.format.format() if self.text.format else None,
            tools=tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
        )
