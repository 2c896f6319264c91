"""What stands in Serve's proxies before the replicas.

Serve answers some requests by itself: where no replica runs, and where the one that answered is gone. Its words are
plain text, and a lost replica's client would get none. Here they become our errors, in the form of the path's API.
"""

import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.error_forms import error_body, error_event
from app.api.http.error_response import error_response
from app.contract.errors import Interrupted, NotFound, NotReady, ServingError
from app.contract.readiness import RESTART_SECONDS

_SERVES_OWN = "/-/"
"""Serve's paths: /-/healthz for load balancers, /-/routes."""

_OURS = "request-id"
"""A header of every response of the app, and of none of Serve's own."""


def middlewares() -> list[Middleware]:
    """For Serve, which calls it in every proxy."""
    return [Middleware(Ingress)]


def lost() -> Interrupted:
    """The error of the requests whose replica was lost. Not a 503: some of the answer may have been computed."""
    return Interrupted("The replica that answered was lost. Ask again: another one answers.", retry_after=1.0)


def none_ready() -> NotReady:
    """The error where no replica takes requests."""
    return NotReady("No replica is ready yet.", retry_after=RESTART_SECONDS)


class Ingress:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(_SERVES_OWN):
            await self._app(scope, receive, send)
            return
        if scope["path"] == "/metrics":  # would be those of any replica; each has its own address for them
            await _refuse(NotFound(), scope, receive, send)
            return
        watched = _Watched(send)
        await self._app(scope, receive, watched)
        if watched.ended:
            return
        if watched.started:
            await watched.end(scope)
        else:
            await _refuse(watched.instead or lost(), scope, receive, send)


class _Watched:
    """Passes on what a replica sends, and keeps back what Serve says itself."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._stream = False
        self.started = False
        self.ended = False
        self.instead: ServingError | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if _OURS not in headers:
                self.instead = lost() if message["status"] == 500 else none_ready()
                return
            headers["x-request-id"] = headers[_OURS]  # once: Serve adds its own to the app's
            self.started = True
            self._stream = headers.get("content-type", "").startswith("text/event-stream")
        elif self.instead is not None:
            return
        elif message["type"] == "http.response.body":
            self.ended = not message.get("more_body", False)
        await self._send(message)

    async def end(self, scope: Scope) -> None:
        """A stream whose replica was lost ends with an event that says so. Without it, and where the response is no
        stream, the server closes the connection in the middle of the body: no client takes it for an answer."""
        if not self._stream:
            return
        event = error_event(lost(), scope["path"], _request_id(scope))
        await self._send({"type": "http.response.body", "body": event.encode(), "more_body": False})


async def _refuse(error: ServingError, scope: Scope, receive: Receive, send: Send) -> None:
    request_id = _request_id(scope)
    headers = {"x-request-id": request_id, "request-id": request_id}
    body = error_body(error, scope["path"], request_id)
    await error_response(error, body, headers)(scope, receive, send)


def _request_id(scope: Scope) -> str:
    """Serve's, which the replica had as well."""
    return Headers(scope=scope).get("x-request-id") or uuid.uuid4().hex
