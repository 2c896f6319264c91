"""Events, on their way up: PromptEvent, TokenEvent and Finished from an engine to serving; TextEvent, ToolCallEvent
and Finished from serving to api. Every answer, however it ends, ends with exactly one Finished.

Durations are seconds.
"""

from dataclasses import dataclass
from enum import StrEnum

from app.contract.errors import ServingError


class FinishReason(StrEnum):
    """Why an answer ended."""

    STOP = "stop"  # the model's own end, or a stop string
    LENGTH = "length"  # max_tokens, or see Finished.error
    TOOL_CALLS = "tool_calls"  # it called tools, and each call is whole
    CANCELLED = "cancelled"  # the client disconnected, or the server stopped it
    ERROR = "error"  # see Finished.error


SUCCESSES = frozenset({FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS})


@dataclass(frozen=True, slots=True)
class TokenEvent:
    """One new token. `top_logprobs` holds (token id, log-probability), most likely first."""

    token: int
    logprob: float | None = None
    top_logprobs: tuple[tuple[int, float], ...] = ()

    @property
    def count(self) -> int:
        """How many new tokens it is."""
        return 1


@dataclass(frozen=True, slots=True)
class PromptEvent:
    """The next tokens of the prompt with their log-probabilities, where these were asked for: each token once, before
    the first new one. The prompt's first token has none."""

    tokens: tuple[TokenEvent, ...]


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
    """The seconds of each stage, one after the other from arrival to the end. A stage that was not reached has 0."""

    prepare: float = 0.0  # until the prompt is rendered and tokenized, and admitted
    grammar: float = 0.0  # until its grammar is compiled
    queue: float = 0.0  # until its first prompt token is computed
    prefill: float = 0.0  # until the first new token
    upstream: float = 0.0  # with a remote engine, instead of prefill: until another server sent the first new token
    decode: float = 0.0  # until the end

    @property
    def queued(self) -> float:
        """From arrival to the first computed prompt token."""
        return self.prepare + self.grammar + self.queue

    @property
    def computed(self) -> float:
        """From there to the first new token, here or at another server."""
        return self.prefill + self.upstream

    @property
    def to_first_token(self) -> float:
        """From arrival."""
        return self.queued + self.computed

    @property
    def total(self) -> float:
        return self.to_first_token + self.decode


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event. `error` is set if the reason is ERROR or CANCELLED. It is also set if something other than
    max_tokens ended the answer with LENGTH: then the tokens so far are the answer. The service adds the timings."""

    reason: FinishReason
    usage: Usage
    timings: Timings = Timings()
    error: ServingError | None = None
    stop: str | None = None  # the stop string that ended the answer

    @property
    def failure(self) -> ServingError | None:
        """Why there is no answer; None if there is one, whatever ended it."""
        return None if self.reason in SUCCESSES else self.error


EngineEvent = PromptEvent | TokenEvent | Finished

Piece = TextEvent | ToolCallEvent
"""A piece of an answer, as a client sees it."""

ServiceEvent = Piece | Finished
