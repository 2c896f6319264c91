"""What every request passes before its route: request id, errors, API key and body limit.

These are ASGI classes, because Starlette's function middleware hides disconnects and breaks context variables.
"""

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.api_keys import tenant_of
from app.api.http.error_response import error_response, unexpected_error
from app.contract.errors import (
    BodyTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    Overloaded,
    ServingError,
    Unauthorized,
)
from app.contract.requests import ANONYMOUS
from app.contract.telemetry import Observers, RequestEnded

_MOST_BODIES = 64  # of the largest size, that the server holds at once; one tenant's may take half of that
ErrorBody = Callable[[ServingError, str], Mapping[str, object]]
"""The body of an error's response, by the path of the request."""

_SAFE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


class RequestId:
    """Takes nginx's `X-Request-ID`, or makes one; binds it to the log context and sends it back."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SAFE_ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


class Errors:
    """Answers every exception with one of our errors. An unexpected one is a 500, with its traceback in the log.

    Reports every request that ends here to the observers. The service reports those that reach it, whose routes
    answer errors themselves (see `respond`).
    """

    def __init__(self, app: ASGIApp, observers: Observers, error_body: ErrorBody) -> None:
        self._app = app
        self._observers = observers
        self._error_body = error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        arrived_at = time.monotonic()
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except ClientDisconnect:
            return
        except Exception as error:
            refusal, headers = _error_for(error)
            if started:
                raise  # too late for an error response: the server closes the connection
            self._report(scope, refusal, time.monotonic() - arrived_at)
            body = self._error_body(refusal, scope["path"])
            await error_response(refusal, body, headers)(scope, receive, send)

    def _report(self, scope: Scope, error: ServingError, duration: float) -> None:
        self._observers.notify(
            RequestEnded(
                id=scope["state"]["request_id"],
                path=scope["path"],
                status=error.status,
                error_code=error.code,
                duration=duration,
            )
        )


def _error_for(error: Exception) -> tuple[ServingError, Mapping[str, str]]:
    """One of our errors for any exception, and its headers. The frameworks' own messages would quote the request."""
    if isinstance(error, ServingError):
        return error, {}
    if isinstance(error, RequestValidationError):
        return InvalidRequest("The request is malformed."), {}
    if not isinstance(error, HTTPException):
        return unexpected_error(error), {}
    headers = error.headers or {}
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NotFound(), headers
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return MethodNotAllowed(f"This path accepts the methods {headers['Allow']}."), headers
    return InvalidRequest("The request is malformed."), headers


async def raise_to_middleware(_: Request, error: Exception) -> Response:
    """An exception handler for the frameworks that leaves every error to `Errors`."""
    raise error


class Keys:
    """Requires `Authorization: Bearer KEY` and stores the name of the key as the tenant. Public paths need no key.

    Public paths are public for GET and HEAD only: `GET /` is the page, and `POST /` needs a key.
    """

    def __init__(self, app: ASGIApp, keys: Mapping[str, str], public_paths: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["tenant"] = self._tenant(scope)
        await self._app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        """Raises Unauthorized."""
        if not self._keys or self._is_public(scope):
            return ANONYMOUS
        kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        tenant = tenant_of(key.strip(), self._keys) if kind.lower() == "bearer" else None
        if tenant is None:
            raise Unauthorized("A valid API key is required. Send it as the header Authorization: Bearer KEY.")
        return tenant

    def _is_public(self, scope: Scope) -> bool:
        # The path that routes are matched with. The URL could be changed by a Host header.
        return scope["method"] in ("GET", "HEAD") and scope["path"] in self._public_paths


class BodyLimit:
    """Refuses a body that is too large: by its Content-Length before reading it, else while reading it. And any body
    while the bodies of all requests, or those of one tenant, take too much memory: nginx passes them on as they come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._held: Counter[str] = Counter()  # bytes of the bodies of requests that have not ended, by tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "0")
        if length.isascii() and length.isdigit() and int(length[:20]) > self._max_bytes:
            raise self._too_large()
        tenant = scope["state"]["tenant"]
        received = 0

        async def bounded() -> Message:
            nonlocal received
            message = await receive()
            size = len(message.get("body", b""))
            received += size
            self._held[tenant] += size
            if received > self._max_bytes:
                raise self._too_large()
            if size:
                self._refuse_above_share(tenant)
            return message

        try:
            await self._app(scope, bounded, send)
        finally:
            self._held -= Counter({tenant: received})

    def _refuse_above_share(self, tenant: str) -> None:
        most = _MOST_BODIES * self._max_bytes
        if self._held[tenant] > most // 2:
            holder, limit = "of this API key, or of all clients without a key,", most // 2
        elif self._held.total() > most:
            holder, limit = "of all clients", most
        else:
            return
        raise Overloaded(
            f"The bodies of running requests {holder} have more than {limit} bytes together. Send fewer or smaller "
            "requests at once.",
            retry_after=1,
        )

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self._max_bytes} bytes, the limit of this server.")
