"""What another server's refusals and failures are here: our errors, and whether another server may do better."""

import re
from collections.abc import Iterator, Mapping

import orjson

from app.contract.errors import (
    DeadlineExceeded,
    GrammarExhausted,
    InvalidRequest,
    NoTokenLeft,
    OutOfMemory,
    Overloaded,
    PromptTooLong,
    ServingError,
    UnsupportedField,
    UpstreamFailed,
    UpstreamUnavailable,
)
from app.contract.readiness import UPSTREAM_SECONDS
from app.contract.requests import GenerationRequest

_OF_REQUESTS = frozenset({400, 413, 422})
_MOST_SECONDS = 600.0  # of a Retry-After
_LONGEST_WORDS = 400  # characters of an upstream's message
_WINDOW = 12  # characters; a text of two windows that is in both a message and a request is found
_FIELD = re.compile(r"[A-Za-z0-9_.\[\]]{1,64}")
_TOO_LONG = re.compile(
    r"context_length_exceeded|exceed_context_size|maximum context length|context size", re.IGNORECASE
)
_COUNTS = re.compile(
    r"maximum context length is (\d{1,9}) tokens\D*\b(?:has|requested|contains at least) (\d{1,9})\b"
)
_FULL = re.compile(r"currently busy and cannot accept|token backlog limit")  # vLLM's 503 where its queue is bounded
_WRONG_FIELD = re.compile(r"\d+ validation error")  # llama-cpp-python's 500 for a field that it does not take

ENDS: Mapping[str, type[ServingError]] = {
    kind.code: kind for kind in (DeadlineExceeded, GrammarExhausted, NoTokenLeft)
}
_NO_ROOM = "The answer did not fit in the memory of the server that computes the answers."
"""Errors that end an answer of another of these stacks, and are the request's own: no server would do better."""


class Fault(Exception):
    """A server did not answer. `error` is what the client gets; `elsewhere`: another server may answer; `broken`: it
    counts against this one. `seen` is for the log, which gets no words of the server's: they may repeat a prompt."""

    def __init__(
        self, error: ServingError, *, elsewhere: bool = True, broken: bool = True, seen: str = "no answer"
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.seen = seen
        self.elsewhere = elsewhere
        self.broken = broken


def unreachable() -> Fault:
    return Fault(UpstreamUnavailable(retry_after=UPSTREAM_SECONDS))


def broken_off() -> Fault:
    """It ended in the middle of its answer, or sent what is no answer."""
    return Fault(UpstreamFailed(), seen="an answer that broke off, or was none")


def empty() -> Fault:
    """Behind its status 200 was no answer, nor an error in a form that is known. Some servers so refuse what they
    find out late."""
    return Fault(
        UpstreamFailed("The server that computes the answers took the request and sent no answer."), broken=False
    )


def refusal(status: int, headers: Mapping[str, str], body: bytes, request: GenerationRequest) -> Fault:
    """The fault of a response that is no answer."""
    told, seen = _told(body), f"status {status}"
    if status == 500 and _WRONG_FIELD.match(str(told.get("message"))):
        status, told = 400, {}
    if status in _OF_REQUESTS:
        return Fault(_invalid(told, request), elsewhere=False, broken=False)
    if status in (401, 403):
        return Fault(UpstreamFailed("The server that computes the answers refuses this server's key."), seen=seen)
    if status == 429 or (status == UpstreamUnavailable.status and _FULL.search(str(told.get("message")))):
        full = "The servers that compute the answers are full."
        return Fault(Overloaded(full, retry_after=_retry_after(headers, 1.0), reason="upstream"), broken=False)
    if status == DeadlineExceeded.status:
        told = {"code": DeadlineExceeded.code}
    if status >= 500 and told.get("code") in {*ENDS, OutOfMemory.code}:
        return ended_by(told, request)
    if status == UpstreamUnavailable.status:
        return Fault(UpstreamUnavailable(retry_after=_retry_after(headers, UPSTREAM_SECONDS)), seen=seen)
    return Fault(UpstreamFailed(), seen=seen)


def ended_by(error: object, request: GenerationRequest) -> Fault:
    """The fault of an error within a stream. vLLM begins a stream before it finds that a grammar cannot be made."""
    told = error if isinstance(error, dict) else {}
    code = told.get("code")
    if isinstance(code, int) and code in _OF_REQUESTS:
        return Fault(_invalid(told, request), elsewhere=False, broken=False)
    if isinstance(code, str) and code in ENDS:
        return Fault(ENDS[code](), elsewhere=False, broken=False)
    if code == OutOfMemory.code:
        return Fault(OutOfMemory(_NO_ROOM), broken=False)
    return broken_off()


def _told(body: bytes) -> dict[str, object]:
    """The error object of OpenAI's form; older servers of vLLM's have its fields at the top."""
    try:
        value = orjson.loads(body)
    except ValueError:
        return {}
    if isinstance(value, dict):
        error = value.get("error")
        return error if isinstance(error, dict) else value
    return {}


def _invalid(told: Mapping[str, object], request: GenerationRequest) -> InvalidRequest:
    message, param = told.get("message"), told.get("param")
    words = message if isinstance(message, str) and _is_safe(message, request) else None
    field = param if isinstance(param, str) and _FIELD.fullmatch(param) else None
    if _TOO_LONG.search(f"{told.get('code')} {told.get('type')} {message}"):
        too_long = PromptTooLong(
            words or "The prompt is longer than the model's maximum context length.",
            param="messages" if request.prompt is None else "prompt",
        )
        counts = _COUNTS.search(str(message))
        if counts is not None:
            too_long.most, too_long.tokens = int(counts[1]) - 1, int(counts[2])  # the answer needs one
        return too_long
    kind = UnsupportedField if told.get("code") == UnsupportedField.code else InvalidRequest
    return kind(words or "The server that computes the answers refuses this request.", param=field)


def _is_safe(message: str, request: GenerationRequest) -> bool:
    """Whether it is short words on one line that repeat nothing of the request's texts."""
    if len(message) > _LONGEST_WORDS or not message.isprintable():
        return False
    windows = [message[at : at + _WINDOW] for at in range(0, len(message) - _WINDOW + 1, _WINDOW)]
    for text in _texts(request):
        if len(text) >= 2 * _WINDOW:
            if any(window in text for window in windows):
                return False
        elif text.strip() and re.search(rf"(?<!\w){re.escape(text.strip())}(?!\w)", message):
            return False
    return True


def _texts(request: GenerationRequest) -> Iterator[str]:
    for message in request.messages:
        yield message.content
        yield from (call.arguments for call in message.tool_calls)
    yield from (tool.description for tool in request.tools)
    yield from (text for text in (request.prompt, request.suffix, *request.stop) if isinstance(text, str))


def _retry_after(headers: Mapping[str, str], otherwise: float) -> float:
    """In whole seconds; a date says nothing here."""
    value = headers.get("retry-after", "")
    return min(_MOST_SECONDS, max(1.0, float(value))) if value.isdecimal() and len(value) < 8 else otherwise
