"""How large a request's body may be, and the bodies of all requests together."""

from collections import Counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.contract.errors import BodyTooLarge, Overloaded

_MOST_BODIES = 64  # of the largest size, that the server holds at once; one tenant's may take half of that


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
