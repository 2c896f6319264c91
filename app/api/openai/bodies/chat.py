"""The body of `/v1/chat/completions`."""

from dataclasses import replace
from typing import Literal, Self

from pydantic import Field, model_validator

from app.api.http.body_model import Items
from app.api.openai.bodies.message_fields import MessageFields, conversation
from app.api.openai.bodies.sampling_fields import SamplingFields, TokenLimit
from app.api.openai.bodies.tool_fields import (
    ResponseFormatFields,
    ToolChoiceField,
    ToolFields,
    refuse_choice_without_tools,
    tools_of,
)
from app.contract.engine import ModelInfo
from app.contract.errors import InvalidRequest
from app.contract.requests import GenerationRequest, Operation, ToolChoice

MOST_MESSAGES = 4096
MOST_TOOLS = 128  # OpenAI's


class ChatBody(SamplingFields):
    """The fields of a chat request beside those of every completion."""

    messages: Items[MessageFields] = Field(
        min_length=1, max_length=MOST_MESSAGES, description="The conversation, oldest turn first."
    )
    max_completion_tokens: TokenLimit = Field(
        None,
        ge=1,
        le=1_000_000,
        description="The newer name of max_tokens. A request may have both if they are equal.",
    )
    logprobs: bool = Field(
        False,
        description="Log-probabilities of the tokens of the answer's text, without those of tool calls: the model's "
        "own, before temperature, penalties, biases and grammars.",
    )
    top_logprobs: int | None = Field(
        None, ge=0, le=20, description="This many most likely tokens at each position. Above 0 it needs logprobs."
    )
    response_format: ResponseFormatFields | None = Field(
        None,
        description="Text, any JSON object, or JSON of a schema. The answer fits it, unless max_tokens cuts it off.",
    )
    tools: Items[ToolFields] = Field(
        default_factory=list,
        max_length=MOST_TOOLS,
        description="Functions that the model may call, with different names.",
    )
    tool_choice: ToolChoiceField = Field(
        ToolChoice(),
        description="Whether the model calls tools: never, if it wants to, at least one, or the named one.",
    )
    parallel_tool_calls: bool = Field(True, description="False: at most one call in an answer.")
    modalities: Items[Literal["text"]] = Field(default_factory=list, max_length=8, description="Only text.")

    @model_validator(mode="after")
    def _logprobs_agree(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise InvalidRequest("top_logprobs requires logprobs to be true.", param="top_logprobs")
        return self

    @property
    def token_limit(self) -> int | None:
        """Raises InvalidRequest when the two names of the limit have different values."""
        limits = {self.max_tokens, self.max_completion_tokens} - {None}
        if len(limits) > 1:
            raise InvalidRequest(
                "max_tokens and max_completion_tokens are two names of one limit and must be equal.",
                param="max_completion_tokens",
            )
        return limits.pop() if limits else None

    def generation(self, request_id: str, tenant: str, served: ModelInfo) -> GenerationRequest:
        """Raises InvalidRequest, ModelNotFound."""
        tools = tools_of(self.tools)
        refuse_choice_without_tools(self.tool_choice, tools)
        top_logprobs = (self.top_logprobs or 0) if self.logprobs else None
        return replace(
            self.request(request_id, Operation.CHAT, tenant, served, top_logprobs),
            messages=conversation(self.messages),
            response_format=self.response_format.format() if self.response_format else None,
            tools=tools,
            tool_choice=self.tool_choice,
            parallel_tool_calls=self.parallel_tool_calls,
        )
