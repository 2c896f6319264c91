"""Who sent a request, read from its headers."""

import re
import uuid
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.caller import Caller, set_caller

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


class FromHeaders:
    """Notes the caller for whoever tells the request's end. nginx sets `X-Real-IP` and `X-Client-Request-ID`.

    Where traces are sent, a request without one begins one.
    """

    def __init__(self, app: ASGIApp, *, traced: bool) -> None:
        self._app = app
        self._traced = traced

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            set_caller(self._caller(scope))
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Caller:
        headers = Headers(scope=scope)
        connected = scope.get("client")
        caller = Caller(
            path=scope["path"],
            address=headers.get("x-real-ip") or (connected[0] if connected else None),
            user_agent=_text(headers.get("user-agent")),
            request_id=headers.get("x-client-request-id"),
        )
        given = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
        if given is not None:
            trace_id, parent_id, flags, _ = given.groups()
            return replace(caller, trace_id=trace_id, parent_id=parent_id, sampled=bool(int(flags, 16) & 1))
        return replace(caller, trace_id=uuid.uuid4().hex) if self._traced else caller


def _text(header: str | None) -> str | None:
    """Starlette reads each byte as a character; most clients that send more than ASCII send UTF-8."""
    if header is None or header.isascii():
        return header
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header
