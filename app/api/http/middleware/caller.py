"""Who sent a request, read from its headers."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.caller import Caller, set_caller

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")
"""https://www.w3.org/TR/trace-context/#traceparent-header"""


class FromHeaders:
    """Notes the caller for whoever tells the request's end. nginx sets `X-Real-IP` and `X-Client-Request-ID`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            set_caller(_caller(scope))
        await self._app(scope, receive, send)


def _caller(scope: Scope) -> Caller:
    headers = Headers(scope=scope)
    connected = scope.get("client")
    traced = _TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return Caller(
        path=scope["path"],
        address=headers.get("x-real-ip") or (connected[0] if connected else None),
        user_agent=headers.get("user-agent"),
        request_id=headers.get("x-client-request-id"),
        trace_id=traced.group(1) if traced else None,
    )
