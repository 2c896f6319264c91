"""The bodies of OpenAI's responses: what the routes write, and what `/openapi.json` describes."""

from typing import Annotated, Literal, NotRequired

from pydantic import Field, WithJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on

from app.api.openai.errors import OpenAIErrorDetail
from app.contract.events import SUCCESSES

Success = Annotated[str, WithJsonSchema({"type": "string", "enum": sorted(reason.value for reason in SUCCESSES)})]
"""A finish reason. An answer that failed has none: it ends with an error."""

CutBy = Annotated[OpenAIErrorDetail, Field(description="What ended a choice early, where that was not max_tokens.")]
"""Our addition to OpenAI's form: the deadline, or a grammar, which plain completions do not have."""

Context = Annotated[int, Field(description="The most tokens of a prompt and its answer together.")]


class Model(TypedDict):
    id: str
    object: Literal["model"]
    created: Annotated[int, Field(description="Unix time of the server's start.")]
    owned_by: str
    max_model_len: NotRequired[Context]


class ModelList(TypedDict):
    object: Literal["list"]
    data: list[Model]


class TokenizedText(TypedDict):
    count: int
    max_model_len: Context
    tokens: list[int]
    token_strs: NotRequired[
        Annotated[list[str | None], Field(description="The ids' names in the vocabulary, if asked for.")]
    ]


class DetokenizedText(TypedDict):
    prompt: str


class RenderedPrompt(TypedDict):
    prompt: Annotated[str, Field(description="The text that the chat template makes, control tokens included.")]
    count: int
    max_model_len: Context
    tokens: list[int]


class CachedTokens(TypedDict):
    cached_tokens: Annotated[int, Field(description="Prompt tokens that were found in the cache and not computed.")]


class UsageCounts(TypedDict):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: CachedTokens


class TimingSeconds(TypedDict):
    """Our addition to OpenAI's form."""

    queue_seconds: Annotated[float, Field(description="From arrival to the first computed prompt token.")]
    prefill_seconds: Annotated[float, Field(description="From there to the first new token.")]
    decode_seconds: Annotated[float, Field(description="From there to the last new token.")]
    tokens_per_second: Annotated[
        float | None,
        Field(description="The speed of decoding: tokens after each choice's first one, by the decode time."),
    ]


class Counts(TypedDict):
    """At the end of every answer."""

    usage: UsageCounts
    timings: TimingSeconds


class Header(TypedDict):
    """The same in an answer and in every chunk of a stream."""

    id: str
    created: int
    model: str
    system_fingerprint: str


class TokenLogprob(TypedDict):
    token: str
    bytes: list[int]
    logprob: float


class ChosenTokenLogprob(TokenLogprob):
    top_logprobs: list[TokenLogprob]


class ChatLogprobs(TypedDict):
    content: list[ChosenTokenLogprob]
    refusal: None


class TextLogprobs(TypedDict):
    tokens: list[str]
    token_logprobs: Annotated[list[float | None], Field(description="null for the first token of a prompt.")]
    top_logprobs: Annotated[list[dict[str, float] | None], Field(description="Likewise.")]
    text_offset: list[int]


class CalledFunction(TypedDict):
    name: str
    arguments: Annotated[str, Field(description="JSON text of an object.")]


class CalledTool(TypedDict):
    id: str
    type: Literal["function"]
    function: CalledFunction


class AnswerMessage(TypedDict):
    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: NotRequired[Annotated[list[CalledTool], Field(description="Only where the model calls tools.")]]


StopReason = Annotated[str, Field(description="The stop string that ended a choice, where one did.")]
"""Our addition, with vLLM's name."""


class ChatChoice(TypedDict):
    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None
    finish_reason: Success
    stop_reason: NotRequired[StopReason]
    error: NotRequired[CutBy]


class TextChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Success
    stop_reason: NotRequired[StopReason]
    error: NotRequired[CutBy]


class ChatCompletion(Header, Counts):
    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class TextCompletion(Header, Counts):
    object: Literal["text_completion"]
    choices: list[TextChoice]


class StreamChunk(Header):
    usage: NotRequired[Annotated[UsageCounts | None, Field(description="Only with stream_options that ask for it.")]]
    timings: NotRequired[Annotated[TimingSeconds, Field(description="Only in a last chunk with usage.")]]


class CalledFunctionPiece(TypedDict):
    name: NotRequired[str]
    arguments: str


class CalledToolPiece(TypedDict):
    """The first piece of a call has its id, type and name; the others have arguments only."""

    index: int
    id: NotRequired[str]
    type: NotRequired[Literal["function"]]
    function: CalledFunctionPiece


class Delta(TypedDict):
    role: NotRequired[Literal["assistant"]]
    content: NotRequired[str]
    tool_calls: NotRequired[list[CalledToolPiece]]


LastReason = Annotated[Success | None, Field(description="In a choice's last chunk.")]


class ChatChunkChoice(TypedDict):
    index: int
    delta: Delta
    logprobs: ChatLogprobs | None
    finish_reason: LastReason
    stop_reason: NotRequired[StopReason]
    error: NotRequired[CutBy]


class TextChunkChoice(TypedDict):
    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: LastReason
    stop_reason: NotRequired[StopReason]
    error: NotRequired[CutBy]


class ChatCompletionChunk(StreamChunk):
    object: Literal["chat.completion.chunk"]
    choices: list[ChatChunkChoice]


class TextCompletionChunk(StreamChunk):
    object: Literal["text_completion"]
    choices: list[TextChunkChoice]
