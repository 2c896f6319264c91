"""Every exception as a response with one of our errors."""

import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.http.error_response import error_response, unexpected_error
from app.contract.caller import current_caller
from app.contract.errors import InvalidRequest, MethodNotAllowed, NotFound, ServingError
from app.contract.telemetry import Observers, RequestEnded

ErrorBody = Callable[[ServingError, str, str], Mapping[str, object]]
"""The body of an error's response, by the path and the id of the request."""


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
            body = self._error_body(refusal, scope["path"], scope["state"]["request_id"])
            await error_response(refusal, body, headers)(scope, receive, send)

    def _report(self, scope: Scope, error: ServingError, duration: float) -> None:
        self._observers.notify(
            RequestEnded(
                id=scope["state"]["request_id"],
                caller=current_caller(),
                status=error.status,
                error=error,
                duration=duration,
                tenant=scope["state"].get("tenant"),
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
