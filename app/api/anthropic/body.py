"""The body of `/v1/messages` and of `/v1/messages/count_tokens`."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from app.api.anthropic.message_fields import TEXT_BLOCKS, ListOfBlocks, TurnFields, text_of
from app.api.anthropic.tool_fields import Choice, CustomToolFields, ToolChoiceFields
from app.api.http.body_model import Items, NullableBody, TolerantBody
from app.api.http.field_json_schemas import accepts
from app.api.openai.bodies.chat import MOST_MESSAGES, MOST_TOOLS
from app.api.openai.bodies.sampling_fields import (
    AnswerBody,
    SamplingFields,
    StopList,
    Temperature,
    TokenLimit,
    TopK,
    TopP,
)
from app.api.openai.bodies.tool_fields import refuse_choice_without_tools, tools_of
from app.api.openai.bodies.turns import Turns
from app.contract.engine import ModelInfo
from app.contract.errors import UnsupportedField
from app.contract.requests import GenerationRequest, JsonFormat, Operation, ToolChoice

NAMES = {"stop": "stop_sequences", "response_format": "output_config.format"}
"""From a chat's fields, which the service names in errors, to those of this body."""

_MOST_EDITS = 16


class JsonOutput(NullableBody):
    type: Literal["json_schema"]
    json_schema: dict[str, Any] = Field(
        alias="schema", description="A JSON schema. An unsupported keyword is a 400 that names it."
    )


class OutputConfig(NullableBody):
    effort: str | None = Field(None, max_length=64, description="Without effect: the model has no such setting.")
    format: JsonOutput | None = Field(None, description="The answer fits this schema, unless it is cut off.")


class ClearThinking(TolerantBody):
    type: Literal["clear_thinking_20251015"]


class ContextManagement(NullableBody):
    edits: Items[ClearThinking] = Field(
        default_factory=list,
        max_length=_MOST_EDITS,
        description="Only of what a model thought, which is never shown to the model here.",
    )


class RequestMetadata(TolerantBody):
    user_id: str | None = Field(None, max_length=512, description="Logged, else without effect.")


class MessagesBody(AnswerBody):
    """A field that is missing here is refused by its name, unless its value asks for nothing."""

    messages: Items[TurnFields] = Field(
        min_length=1, max_length=MOST_MESSAGES, description="The conversation, oldest turn first."
    )
    system: Annotated[ListOfBlocks, accepts(TEXT_BLOCKS)] = Field(
        default_factory=list, description="A system turn before the conversation: a string, or text blocks."
    )
    max_tokens: TokenLimit = Field(
        None, ge=1, le=1_000_000, description="The most new tokens. Absent and -1: as many as fit."
    )
    temperature: Temperature = None
    top_p: TopP = None
    top_k: TopK = None
    stop_sequences: StopList = Field(
        default_factory=list,
        description="The answer ends before any of these strings, at most 16, also within JSON. Calls of tools are "
        "not searched for them.",
    )
    tools: Items[CustomToolFields] = Field(
        default_factory=list,
        max_length=MOST_TOOLS,
        description="Tools that the model may call, with different names. None that a server runs itself.",
    )
    tool_choice: ToolChoiceFields = Field(
        Choice(ToolChoice()),
        description="Whether the model calls tools: if it wants to, at least one, the named one, or never; and "
        "whether an answer may have more than one call.",
    )
    output_config: OutputConfig = Field(OutputConfig(), description="The form of the answer's text.")
    stream: bool = Field(False, description="Answer as server-sent events, with Anthropic's names and order.")
    thinking: dict[str, Any] | None = Field(None, description="Without effect: the model does not think apart.")
    context_management: ContextManagement | None = Field(None, description="Without effect.")
    metadata: RequestMetadata = Field(RequestMetadata(), description="Logged, else without effect.")
    cache_control: dict[str, Any] | None = Field(None, description="Without effect: every prefix is cached.")
    service_tier: str | None = Field(None, max_length=64, description="Without effect: there is one tier.")
    speed: str | None = Field(None, max_length=64, description="Without effect, as the tier.")
    inference_geo: str | None = Field(None, max_length=64, description="Without effect: there is one place.")

    def generation(self, request_id: str, tenant: str, served: ModelInfo) -> GenerationRequest:
        """Raises InvalidRequest, UnsupportedField, ModelNotFound."""
        self.refuse_other_models(served)
        tools = tools_of([tool.nested() for tool in self.tools])
        refuse_choice_without_tools(self.tool_choice.tools, tools)
        shared = SamplingFields(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop_sequences,
            stream=self.stream,
            user=self.metadata.user_id,
        )
        wanted = self.output_config.format
        turns = self._turns()
        return replace(
            shared.request(request_id, Operation.CHAT, tenant, served, None),
            messages=turns.messages(),
            response_format=JsonFormat(wanted.json_schema) if wanted else None,
            tools=tools,
            tool_choice=self.tool_choice.tools,
            parallel_tool_calls=self.tool_choice.parallel,
        )

    def _turns(self) -> Turns:
        turns = Turns(id_of_call="id", id_of_result="tool_use_id")
        system = text_of(self.system, "system")
        if system:
            turns.say("system", system, "system")
        for index, turn in enumerate(self.messages):
            turn.add(turns, f"messages[{index}]")
        if self.messages[-1].role == "assistant":
            place = f"messages[{len(self.messages) - 1}]"
            raise UnsupportedField(
                f"{place}: this model does not support assistant message prefill. The conversation must end with a "
                "user message.",
                param=place,
            )
        return turns
