"""The API key of a request, which names its tenant."""

from datetime import UTC, datetime

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.contract.errors import Unauthorized
from app.contract.options import CONTENT_OF_KEY
from app.contract.requests import ANONYMOUS
from app.keys.book import KeyBook


class Keys:
    """Requires `Authorization: Bearer KEY`, or Anthropic's `x-api-key: KEY`, and stores the name of the key as the
    tenant. Public paths need no key.

    Public paths are public for GET and HEAD only: `GET /` is the page, and `POST /` needs a key.
    """

    def __init__(self, app: ASGIApp, keys: KeyBook, public_paths: frozenset[str]) -> None:
        self._app = app
        self._keys = keys
        self._public_paths = public_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope.setdefault("state", {})["tenant"] = self._tenant(scope)
        await self._app(scope, receive, send)

    def _tenant(self, scope: Scope) -> str:
        """Raises Unauthorized."""
        if not self._keys.required or self._is_public(scope):
            return ANONYMOUS
        record = self._keys.find(_sent_key(Headers(scope=scope)))
        if record is None:
            raise Unauthorized(
                "A valid API key is required. Send it as the header Authorization: Bearer KEY, or as x-api-key: KEY.",
                reason="unknown_key" if _sent_key(Headers(scope=scope)) else "no_key",
            )
        ended = record.ended(datetime.now(UTC))
        if ended is not None:
            raise Unauthorized(
                f"This API key {ended}. Ask the operator of this server for another one.", reason="ended_key"
            )
        if record.log_content is not None:
            structlog.contextvars.bind_contextvars(**{CONTENT_OF_KEY: record.log_content})
        return record.name

    def _is_public(self, scope: Scope) -> bool:
        # The path that routes are matched with. The URL could be changed by a Host header.
        return scope["method"] in ("GET", "HEAD") and scope["path"] in self._public_paths


def _sent_key(headers: Headers) -> str:
    """Empty where there is none, which no key is."""
    kind, _, key = headers.get("authorization", "").partition(" ")
    return (key if kind.lower() == "bearer" else headers.get("x-api-key", "")).strip()
