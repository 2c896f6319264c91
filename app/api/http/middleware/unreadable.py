"""Refuses what app/api/http/protocol.py could not read as HTTP, so that it ends like every other refusal."""

from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.errors import InvalidRequest

UNREADABLE = "unreadable"
"""Of a scope's `state`: there was no valid request, and the rest of the scope is what could be read."""


class Unreadable:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("state", {}).get(UNREADABLE):
            raise InvalidRequest("The request is not valid HTTP.")
        await self._app(scope, receive, send)
