"""Who sent a request, for its log line. It decides nothing: a client may write what it likes into its headers."""

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """None where the request does not say."""

    path: str  # as the client wrote it: for the log, never for a label
    address: str | None = None
    user_agent: str | None = None
    request_id: str | None = None  # the client's own
    # Of W3C's `traceparent`, 32 and 16 hexadecimal digits. Without one the first is our own, where traces are sent.
    trace_id: str | None = None
    parent_id: str | None = None
    sampled: bool = True


_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)


def set_caller(caller: Caller) -> None:
    """For everything that follows in this request's context."""
    _caller.set(caller)


def current_caller() -> Caller | None:
    return _caller.get()
