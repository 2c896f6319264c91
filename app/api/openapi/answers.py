"""The shapes of answers, for the document alone: the routes write what is sent, and a test holds both together."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassicAnswer(Shape):
    response: str
    history: list[list[str]] = Field(description="The history that was sent, and the new pair: it can be sent back.")
    status: Literal[200]
    time: str = Field(description="Local time of the server, `YYYY-MM-DD HH:MM:SS`.")


class ClassicErrorDetail(Shape):
    code: str
    message: str


class ClassicError(Shape):
    status: int = Field(description="The HTTP status again.")
    error: ClassicErrorDetail
    time: str


class OpenAIErrorDetail(Shape):
    message: str
    type: str
    param: str | None = Field(description="The field at fault, if one is.")
    code: str


class OpenAIError(Shape):
    error: OpenAIErrorDetail


class Model(Shape):
    id: str
    object: Literal["model"]
    created: int = Field(description="Unix time of the server's start.")
    owned_by: str
    max_model_len: int = Field(description="The most tokens of a prompt and its answer together.")


class ModelList(Shape):
    object: Literal["list"]
    data: list[Model]


class Tokens(Shape):
    count: int
    max_model_len: int = Field(description="The most tokens of a prompt and its answer together.")
    tokens: list[int]
    token_strs: list[str | None] | None = Field(None, description="The ids' names in the vocabulary, if asked for.")


class Text(Shape):
    prompt: str


class RenderedPrompt(Shape):
    prompt: str = Field(description="What the chat template made, control tokens included.")
    count: int
    max_model_len: int
    tokens: list[int]


class CachedTokens(Shape):
    cached_tokens: int = Field(description="Prompt tokens that a cached prefix made unnecessary to compute.")


class Usage(Shape):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class Timings(Shape):
    queue_seconds: float
    prefill_seconds: float
    decode_seconds: float
    tokens_per_second: float | None


class CalledFunction(Shape):
    name: str
    arguments: str = Field(description="JSON text of an object.")


class ToolCall(Shape):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(Shape):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = Field(None, description="Only where the model calls tools.")


class Choice(Shape):
    index: int
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"]


class ChatChoice(Choice):
    message: AnswerMessage


class TextChoice(Choice):
    text: str


class Completion(Shape):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage
    timings: Timings


class ChatCompletion(Completion):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(Completion):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class Chunk(Shape):
    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage | None = Field(None, description="Only with stream_options that ask for it.")
    timings: Timings | None = Field(None, description="Only in a last chunk with usage.")


class CalledFunctionPiece(Shape):
    name: str | None = None
    arguments: str


class ToolCallPiece(Shape):
    """What identifies the call is in its first piece alone."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunctionPiece


class Delta(Shape):
    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallPiece] | None = None


class ChunkChoice(Shape):
    index: int
    logprobs: dict[str, Any] | None
    finish_reason: Literal["stop", "length", "tool_calls"] | None = Field(description="In a choice's last chunk.")


class ChatChunkChoice(ChunkChoice):
    delta: Delta


class TextChunkChoice(ChunkChoice):
    text: str


class ChatCompletionChunk(Chunk):
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]


class TextCompletionChunk(Chunk):
    object: Literal["text_completion"]
    choices: list[TextChunkChoice]


class ClassicDelta(Shape):
    delta: str


class Alive(Shape):
    status: Literal["alive"]
    phase: str


class Ready(Shape):
    status: Literal["ready"]
    model: str


class Startup(Shape):
    status: Literal["started", "starting"]
    phase: str
    progress: float = Field(description="From 0 to 1 within the phase.")
    elapsed: float = Field(description="Seconds since the start.")
    detail: str


class NotReady(Shape):
    status: str = Field(description="The reason in one word.")
    reason: str
