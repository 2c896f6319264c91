"""Reads the chunks of another server's answer, in OpenAI's form: of a chat, or of a plain completion."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from app.contract.errors import ServingError
from app.contract.events import FinishReason, TokenEvent, ToolCallEvent, Usage
from app.contract.requests import GenerationRequest
from app.remote.faults import ENDS, broken_off, ended_by
from app.remote.token_numbers import number_of

DONE = b"[DONE]"

_REASONS = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH, "tool_calls": FinishReason.TOOL_CALLS}
_FAILURES = frozenset({"abort", "error"})  # vLLM's and SGLang's
_BYTES = "bytes:"


class _Function(BaseModel):
    name: str | None = None
    arguments: str | None = None


class _Call(BaseModel):
    index: int = 0
    id: str | None = None
    function: _Function = Field(default_factory=_Function)


class _Delta(BaseModel):
    content: str | None = None
    tool_calls: list[_Call] | None = None


class _Token(BaseModel):
    token: str
    bytes: list[Annotated[int, Field(ge=0, le=255)]] | None = None
    logprob: float


class _ChosenToken(_Token):
    top_logprobs: list[_Token] | None = None


class _Logprobs(BaseModel):
    """Those of a chat have `content`, those of a plain completion the other three."""

    content: list[_ChosenToken] | None = None
    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float] | None] | None = None


class _Choice(BaseModel):
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's: the stop string, or the id of a stop token
    error: Any = None  # ours: what cut the answer


class _CachedTokens(BaseModel):
    cached_tokens: int | None = None


def _absent_where_null(data: Any) -> Any:
    """Some servers write `null` where others leave a field out."""
    return {name: value for name, value in data.items() if value is not None} if isinstance(data, dict) else data


class _Usage(BaseModel):
    prompt_tokens: Annotated[int, Field(ge=0)] = 0
    completion_tokens: Annotated[int, Field(ge=0)] = 0
    prompt_tokens_details: _CachedTokens | None = None

    _no_nulls = model_validator(mode="before")(_absent_where_null)


class _Chunk(BaseModel):
    choices: list[_Choice] = Field(default_factory=list)
    usage: _Usage | None = None
    error: Any = None

    _no_nulls = model_validator(mode="before")(_absent_where_null)


@dataclass(frozen=True, slots=True)
class NewText:
    """What a chunk adds: `count` new tokens, some text, pieces of calls, and log-probabilities if they are wanted."""

    text: str
    calls: tuple[ToolCallEvent, ...]
    tokens: tuple[TokenEvent, ...]
    count: int


class AnswerReader:
    """Belongs to the answer to one request, which has one choice. `reason` is set when it has ended."""

    def __init__(self, request: GenerationRequest) -> None:
        self._request = request
        self.begun = False  # something came
        self.reason: FinishReason | None = None
        self.cut_by: ServingError | None = None
        self.stop: str | None = None  # the stop string that ended it, where the server says so
        self._usage: _Usage | None = None
        self._counted = 0
        self._calls: dict[int, int] = {}  # the server's numbers of calls, and ours

    @property
    def usage(self) -> Usage:
        """The server's figures; where it gives none, only what was counted. So far, until the answer has ended."""
        told = self._usage
        if told is None:
            return Usage(completion_tokens=self._counted)
        details = told.prompt_tokens_details
        return Usage(
            told.prompt_tokens,
            max(told.completion_tokens, self._counted),
            min(told.prompt_tokens, max(0, (details and details.cached_tokens) or 0)),
        )

    def push(self, data: bytes) -> NewText | None:
        """What one chunk adds; None if nothing. Raises Fault for an error, and for what is no chunk."""
        self.begun = True
        try:
            chunk = _Chunk.model_validate_json(data)
        except ValidationError:
            raise broken_off() from None
        if chunk.error is not None:
            raise ended_by(chunk.error, self._request)
        self._usage = chunk.usage or self._usage
        choice = next(iter(chunk.choices), None)
        if choice is None:
            return None
        text, calls = self._content(choice)
        tokens = _tokens(choice.logprobs)
        count = self._count(chunk.usage, tokens, something=bool(text or calls))
        self._end(choice)
        if not (text or calls or tokens or count):
            return None
        return NewText(text, calls, tokens, count)

    def _content(self, choice: _Choice) -> tuple[str, tuple[ToolCallEvent, ...]]:
        if choice.delta is None:
            return choice.text or "", ()
        return choice.delta.content or "", tuple(map(self._call, choice.delta.tool_calls or ()))

    def _call(self, call: _Call) -> ToolCallEvent:
        arguments = call.function.arguments or ""
        if call.index in self._calls:
            return ToolCallEvent(self._calls[call.index], arguments)
        if not call.function.name:
            raise broken_off()
        self._calls[call.index] = len(self._calls)
        own = call.id or f"call_{secrets.token_hex(12)}"
        return ToolCallEvent(self._calls[call.index], arguments, own, call.function.name)

    def _count(self, usage: _Usage | None, tokens: tuple[TokenEvent, ...], *, something: bool) -> int:
        """New tokens by the server's own count, by the log-probabilities, or one for a piece of text."""
        if usage is not None and usage.completion_tokens:
            count = max(0, usage.completion_tokens - self._counted)
        else:
            count = len(tokens) or int(something)
        self._counted += count
        return count

    def _end(self, choice: _Choice) -> None:
        if choice.finish_reason is None:
            return
        if choice.finish_reason in _FAILURES:
            raise broken_off()
        self.reason = _REASONS.get(choice.finish_reason, FinishReason.STOP)
        self.stop = choice.stop_reason if isinstance(choice.stop_reason, str) else None
        code = choice.error.get("code") if isinstance(choice.error, dict) else None
        if isinstance(code, str) and code in ENDS:
            self.cut_by = ENDS[code]()


def _tokens(logprobs: _Logprobs | None) -> tuple[TokenEvent, ...]:
    if logprobs is None:
        return ()
    if logprobs.content is not None:
        return tuple(_chat_token(token) for token in logprobs.content)
    names = logprobs.tokens or []
    values = logprobs.token_logprobs or [None] * len(names)
    tops = logprobs.top_logprobs or [None] * len(names)
    if not len(names) == len(values) == len(tops):
        raise broken_off()
    return tuple(
        TokenEvent(number_of(_raw(name)), value, _text_top(top or {}))
        for name, value, top in zip(names, values, tops, strict=True)
    )


def _text_top(top: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    """Most likely first, whatever order the object has."""
    likely_first = sorted(top.items(), key=lambda pair: -pair[1])
    return tuple((number_of(_raw(name)), value) for name, value in likely_first)


def _chat_token(token: _ChosenToken) -> TokenEvent:
    top = tuple((_number(other), other.logprob) for other in token.top_logprobs or ())
    return TokenEvent(_number(token), token.logprob, top)


def _number(token: _Token) -> int:
    return number_of(_raw(token.token) if token.bytes is None else bytes(token.bytes))


def _raw(name: str) -> bytes:
    r"""The bytes of a token's name: its text, or as OpenAI writes a part of a character, `bytes:\xe4\xbd`."""
    if name.startswith(_BYTES):
        try:
            return bytes.fromhex(name.removeprefix(_BYTES).replace("\\x", ""))
        except ValueError:
            pass  # a text that begins so
    return name.encode(errors="replace")
