"""How large a request's body may be, and the bodies of all requests together."""

from collections import Counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.errors import BodyTooLarge, Overloaded

_MOST_BODIES = 64  # of the largest size, that the server holds at once


class BodyLimit:
    """Refuses a body that is too large: by its Content-Length before reading it, else while reading it. And any body
    of a tenant whose bodies take too much memory, as nginx passes them on as they come: more than half, or more than
    an equal share while all is taken. So k tenants hold at most 1/2 + 1/2 + 1/3 + … + 1/k of it.
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
        allowed = most // max(2, len(+self._held)) if self._held.total() > most else most // 2
        if self._held[tenant] <= allowed:
            return
        raise Overloaded(
            "The bodies of running requests of this API key, or of all clients without a key, have more than "
            f"{allowed} bytes together. Send fewer or smaller requests at once.",
            retry_after=1,
            reason="bodies",
        )

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(f"The body is larger than {self._max_bytes} bytes, the limit of this server.")
