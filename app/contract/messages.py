"""The typed messages between the packages.

Down:  GenerationRequest (api → serving), EngineRequest (serving → engine).
Up:    TokenEvent and Finished (engine → serving), TextEvent, ToolCallEvent and Finished (serving → api).
Every answer, however it ends, ends with exactly one Finished.

Times called `…_at` are seconds of the monotonic clock; durations are seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from app.contract.errors import ServingError

ANONYMOUS = "anonymous"
"""The tenant of a request that came without an API key."""

LEAST_TEMPERATURE = 1e-4
"""Lower temperatures only risk an overflow: at this one, a score that leads by 0.01 already wins every draw."""

Role = Literal["system", "user", "assistant", "tool"]


class Operation(StrEnum):
    """The kind of request, by OpenTelemetry's names for `gen_ai.operation.name`."""

    CHAT = "chat"
    TEXT_COMPLETION = "text_completion"


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model's own end, or a stop string
    LENGTH = "length"  # max_tokens, or see Finished.error
    TOOL_CALLS = "tool_calls"  # the model's own end, after it called tools
    CANCELLED = "cancelled"  # the client disconnected, or the server stopped it
    ERROR = "error"  # see Finished.error


SUCCESSES = frozenset({FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS})


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks its client to make. `arguments` is JSON text of an object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. An assistant's turn may hold tool calls; a tool's turn answers one of them."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments. `strict`: it is enforced
    in full or refused."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the answer calls tools: never, as the model decides, or at least one. With `name`, only that one."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer is JSON that fits this JSON schema; without one, any JSON object."""

    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How the next token is chosen, with Hugging Face semantics. The defaults sample from the model's own
    distribution."""

    seed: int  # below 2**63; always set, so that every answer can be repeated
    temperature: float = 1.0  # 0 means greedy: always the most likely token, the filters below are ignored
    top_k: int = 0  # 0: off
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0  # over prompt and output
    presence_penalty: float = 0.0  # over output
    frequency_penalty: float = 0.0  # over output
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    min_tokens: int = 0  # no stop token before this many new tokens
    # None: no log-probabilities. n: those of the chosen token and of the n most likely ones.
    top_logprobs: int | None = None

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationRequest:
    """A request of a route to `serving`. It has a conversation (`messages`) or a raw prompt (`prompt`), never
    both."""

    id: str
    operation: Operation
    sampling: SamplingParams
    messages: tuple[Message, ...] = ()
    prompt: str | tuple[int, ...] | None = None  # a text, or ids of the model's vocabulary
    suffix: str | None = None  # with a text `prompt`: the text after the gap that the model fills
    response_format: JsonFormat | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    max_tokens: int | None = None  # None: as many as fit
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    stream: bool = False
    n: int = 1  # answers to each prompt
    tenant: str = ANONYMOUS
    user: str | None = None  # the client's own name for its user; for the log
    metadata: Mapping[str, str] = field(default_factory=dict)  # the client's own labels; for the log

    @property
    def shown_tools(self) -> tuple[Tool, ...]:
        """The tools that the model is told about."""
        return () if self.tool_choice.mode == "none" else self.tools

    @property
    def callable_tools(self) -> tuple[Tool, ...]:
        """The tools that the answer may call: of the shown ones all, or the one that was named."""
        wanted = self.tool_choice.name
        return tuple(tool for tool in self.shown_tools if wanted in (None, tool.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonGrammar:
    """The answer is JSON that fits a schema."""

    schema: str  # JSON text
    param: str  # the client's field that it comes from: refusals name it


@dataclass(frozen=True, slots=True, kw_only=True)
class LarkGrammar:
    """The answer follows rules in llguidance's dialect of Lark, beginning with the rule `start`.

    The rules may use rules that are not among them: each name in `schemas` is one for JSON that fits a schema.
    """

    rules: str
    schemas: Mapping[str, str]  # from a rule's name to the JSON text of its schema
    param: str  # as JsonGrammar's


Grammar = JsonGrammar | LarkGrammar
"""What an answer must follow, as data: each engine enforces it by its own means, or refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """A request of `serving` to an engine. It has token ids and no text."""

    id: str
    tokens: tuple[int, ...]  # at least one
    max_tokens: int  # at least 1; len(tokens) + max_tokens fits the model's context
    sampling: SamplingParams
    stop_tokens: frozenset[int] = frozenset()  # one of these ends the answer, and is its last token
    grammar: Grammar | None = None
    tenant: str = ANONYMOUS  # cached prefixes are not shared between tenants
    deadline_at: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """What the engine knows when the first token comes. Finished has it too, but a stop string ends an answer before
    that."""

    queued: float
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One new token. `top_logprobs` holds (token id, log-probability), most likely first. Only the first token has
    `start`."""

    token: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()
    start: Start | None = None


@dataclass(frozen=True, slots=True)
class TextEvent:
    """A piece of text, never half a character, and the tokens that completed it."""

    text: str
    tokens: tuple[TokenEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolCallEvent:
    """A piece of a tool call. The first piece of call `index` has `id` and `name`; the others add to its arguments,
    which are whole and valid JSON when the answer ends with TOOL_CALLS."""

    index: int
    arguments: str
    id: str | None = None
    name: str | None = None
    tokens: tuple[TokenEvent, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. The stop token counts as a completion token: the model generated it."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # prompt tokens that were found in the cache and not computed

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


@dataclass(frozen=True, slots=True)
class Timings:
    """The seconds of each stage. A stage that was not reached has 0."""

    queued: float = 0.0  # from arrival to the first computed prompt token
    prefill: float = 0.0  # from there to the first new token
    decode: float = 0.0  # from the first new token to the last


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `error` is set if the reason is ERROR or CANCELLED. It is also set if something other than
    max_tokens ended the answer with LENGTH: then the tokens so far are the answer."""

    reason: FinishReason
    usage: Usage
    timings: Timings
    error: ServingError | None = None
    preemptions: int | None = None  # None when the service ended the answer: only the engine counts them

    @property
    def failed(self) -> bool:
        """There is no answer, and `error` says why."""
        return self.reason not in SUCCESSES


EngineEvent = TokenEvent | Finished

Piece = TextEvent | ToolCallEvent
"""A piece of an answer, as a client sees it."""

ServiceEvent = Piece | Finished
