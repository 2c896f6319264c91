"""The bodies of the answers of `/v1/messages`, whole: what the route writes, and what `/openapi.json` describes."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field
from typing_extensions import TypedDict

from app.api.anthropic.errors import AnthropicErrorDetail

StopReason = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"]
Ended = Annotated[
    AnthropicErrorDetail, Field(description="What ended the answer, where that was not its own end or a limit.")
]


class AnswerText(TypedDict):
    type: Literal["text"]
    text: str


class ToolUse(TypedDict):
    type: Literal["tool_use"]
    id: Annotated[str, Field(description="The id that the result of this call repeats.")]
    name: str
    input: Annotated[dict[str, Any], Field(description="The arguments; of a cut call, what there is of them.")]


ContentBlock = AnswerText | ToolUse


class MessageUsage(TypedDict):
    """All three of the prompt's numbers together are its tokens."""

    input_tokens: Annotated[int, Field(description="Tokens of the prompt that were computed.")]
    cache_creation_input_tokens: Literal[0]
    cache_read_input_tokens: Annotated[int, Field(description="Tokens of the prompt that were found in the cache.")]
    output_tokens: int


class AnswerMessage(TypedDict):
    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: Annotated[StopReason | None, Field(description="Null where a stream begins.")]
    stop_sequence: Annotated[str | None, Field(description="The stop sequence that ended the answer.")]
    usage: MessageUsage
    error: NotRequired[Ended]


class TokenCount(TypedDict):
    input_tokens: int
