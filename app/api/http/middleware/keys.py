"""The API key of a request, which names its tenant."""

from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.http.api_keys import tenant_of
from app.contract.errors import Unauthorized
from app.contract.requests import ANONYMOUS


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
