"""Requests, on their way down: GenerationRequest from api to serving, EngineRequest from serving to an engine.

Times called `…_at` are seconds of the monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal

from app.contract.progress import Progress
from app.contract.terms import NO_TERMS, Terms

ANONYMOUS = "anonymous"
"""The tenant of a request that came without an API key."""

LEAST_TEMPERATURE = 1e-4
"""Lower temperatures only risk an overflow: at this one, a score that leads by 0.01 already wins every draw."""

Role = Literal["system", "user", "assistant", "tool"]


class Operation(StrEnum):
    """The kind of request, by OpenTelemetry's names for `gen_ai.operation.name`."""

    CHAT = "chat"
    TEXT_COMPLETION = "text_completion"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that the model asks its client to make. `arguments` is JSON text of an object; in a past turn any text,
    since an answer may be cut in the middle of a call."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. An assistant's turn may hold tool calls; a tool's turn answers one of them. `name`
    says who speaks, or which tool answers; most templates have no place for it."""

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call. `parameters` is the JSON schema of its arguments. `strict`: it is enforced
    in full or refused, otherwise as far as it can be."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool = False


FUNCTION_NAME = r"[a-zA-Z0-9_-]{1,128}"
"""The pattern of the whole name of a tool's function. OpenAI's API has up to 64 characters, Anthropic's up to 128."""


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the answer calls tools: never, as the model decides, or at least one. With `name`, only that one."""

    mode: Literal["none", "auto", "required"] = "auto"
    name: str | None = None


@dataclass(frozen=True, slots=True)
class JsonFormat:
    """The answer is JSON that fits this JSON schema; without one, any JSON object."""

    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LineLimits:
    """Ends an answer between two of its lines, for programs that write code into a file."""

    least_indent: int = 0
    """An answer ends before a line, other than its first, that is not blank and begins with fewer spaces and tabs."""

    seconds: float | None = None
    """It ends after the first line that is complete this long after its text began."""


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
    # Of temperature, top_p and top_k those that the request leaves to defaults which are not known here.
    left_out: frozenset[str] = frozenset()

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
    context: str = ""  # with a suffix: what the model sees before `prompt` and does not continue, such as other files
    begun: str = ""  # with a suffix: how the text of the gap begins; the answer continues it
    lines: LineLimits = LineLimits()  # of an answer without tools
    response_format: JsonFormat | None = None
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = True
    max_tokens: int | None = None  # None: as many as fit
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    # The prompt comes before its answer, with log-probabilities as `top_logprobs` are, and so does every new token.
    prompt_logprobs: int | None = None
    stream: bool = False
    n: int = 1  # answers to each prompt
    tenant: str = ANONYMOUS
    terms: Terms = NO_TERMS  # the tenant's, when the request came; the service fills them in
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


@dataclass(frozen=True, slots=True)
class SchemaRule:
    """A rule for JSON that fits a schema. If not `strict`, an engine that cannot enforce it allows any object."""

    schema: str  # JSON text
    tool: str | None = None  # whose arguments it describes: refusals name it
    strict: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LarkGrammar:
    """The answer follows rules in llguidance's dialect of Lark, beginning with the rule `start`.

    The rules may use rules that are not among them: those that `schemas` has by their names.
    """

    rules: str
    schemas: Mapping[str, SchemaRule]
    param: str  # as JsonGrammar's


Grammar = JsonGrammar | LarkGrammar
"""What an answer must follow, as data: each engine enforces it by its own means, or refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineRequest:
    """A request of `serving` to an engine. It has token ids and no text."""

    id: str
    tokens: tuple[int, ...]  # at least one
    max_tokens: int  # 0: the prompt is computed, and no more; len(tokens) + max_tokens fits the model's context
    sampling: SamplingParams
    stop_tokens: frozenset[int] = frozenset()  # one of these ends the answer, and is its last token
    grammar: Grammar | None = None
    tenant: str = ANONYMOUS  # cached prefixes are not shared between tenants
    deadline_at: float | None = None
    # None: no log-probabilities of the prompt. n: those of its tokens and, for each place, of the n most likely ones.
    prompt_logprobs: int | None = None
    request_id: str = ""  # of the client's request, which may want several answers; for the log
    progress: Progress = field(default_factory=Progress, compare=False)  # the engine sets its part of it

    @property
    def prompt_tokens(self) -> int:
        return len(self.tokens)
