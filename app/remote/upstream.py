"""One of the servers that compute answers: its connections, what it serves, and how it is."""

import asyncio
import logging
from collections.abc import Callable, Generator
from contextlib import aclosing, contextmanager
from urllib.parse import urlsplit

import httpx2

from app.contract.telemetry import UpstreamChanged
from app.remote.circuit import Circuit
from app.remote.served import Served, served_by

_CONNECT_SECONDS = 5.0
_WRITE_SECONDS = 30.0
_PROBE_SECONDS = 5.0
_IDLE_SECONDS = 4.0  # of a connection that is kept: servers close theirs after five
_MOST_LISTED = 1_048_576  # bytes of a list of models
_ABSENT = frozenset({401, 403, 404, 405, 501})  # statuses of a server that has no such path
_BASE = "/v1"

_log = logging.getLogger(__name__)


class Upstream:
    """`connections` bounds how many there are at once; they are kept and used again. `changed` is told of each
    change."""

    def __init__(
        self, address: str, key: str | None, connections: int, changed: Callable[[UpstreamChanged], None]
    ) -> None:
        self.address = address.rstrip("/")
        self.name = _name(self.address)
        self.outstanding = 0
        self.served: Served | None = None
        self.detail = "it has not answered yet"
        self.circuit = Circuit()
        self.fell = asyncio.Event()  # requests have put it down: ask it now how it is
        self._changed = changed
        self._client = httpx2.AsyncClient(
            headers={} if key is None else {"authorization": f"Bearer {key}"},
            # No limit for reading: the request's own deadline ends it.
            timeout=httpx2.Timeout(None, connect=_CONNECT_SECONDS, write=_WRITE_SECONDS),
            limits=httpx2.Limits(
                max_connections=connections,
                max_keepalive_connections=connections,
                keepalive_expiry=_IDLE_SECONDS,
            ),
            trust_env=False,
            follow_redirects=False,
        )
        self.tell()

    @property
    def usable(self) -> bool:
        return self.served is not None and self.circuit.state != "down"

    @contextmanager
    def lent(self) -> Generator[None, None, None]:
        """While a request is with this server."""
        self.outstanding += 1
        self.tell()
        try:
            yield
        finally:
            self.outstanding -= 1
            self.tell()

    async def send(self, path: str, body: bytes, request_id: str) -> httpx2.Response:
        """The response, whose body is not read yet. Raises httpx2.HTTPError. Close it in any case."""
        headers = {
            "content-type": "application/json",
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "x-request-id": request_id,
        }
        request = self._client.build_request("POST", f"{self.address}/{path}", content=body, headers=headers)
        return await self._client.send(request, stream=True)

    async def probe(self, wanted: str | None) -> None:
        """Asks whether it is well and serves the wanted model. `detail` says what is wrong."""
        before = self.circuit.state
        try:
            served = await self._ask(wanted)
        except (httpx2.HTTPError, TimeoutError) as error:
            self.detail = f"it does not answer ({type(error).__name__})"
            self.circuit.failed(surely=isinstance(error, httpx2.ConnectError))
        except _NotWellError as error:
            self.detail = str(error)
            self.circuit.failed(surely=True)
        except Exception:  # noqa: BLE001  # whatever it sends, it is asked again
            _log.exception("a server could not be asked how it is", extra={"upstream": self.name})
            self.detail = "it cannot be asked"
            self.circuit.failed(surely=True)
        else:
            self.served, self.detail = served, ""
            self.circuit.found_well()
        self.note(before)

    def failed(self, *, surely: bool) -> None:
        before = self.circuit.state
        self.detail = "requests fail"
        self.circuit.failed(surely=surely)
        if self.circuit.state == "down":
            self.fell.set()
        self.note(before)

    def began(self) -> None:
        before = self.circuit.state
        self.circuit.began()
        self.note(before)

    def note(self, before: str) -> None:
        """Log and tell what has changed."""
        state = self.circuit.state
        if state != before:
            level = logging.WARNING if state == "down" else logging.INFO
            _log.log(level, "upstream", extra={"upstream": self.name, "state": state, "detail": self.detail})
        self.tell()

    def tell(self) -> None:
        self._changed(
            UpstreamChanged(
                upstream=self.name,
                state=self.circuit.state,
                outstanding=self.outstanding,
                failures=self.circuit.failures,
            )
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def _ask(self, wanted: str | None) -> Served:
        """Raises httpx2.HTTPError, TimeoutError, _NotWellError."""
        if self.address.endswith(_BASE):
            health, _ = await self._get(f"{self.address.removesuffix(_BASE)}/health")
            if not 200 <= health < 300 and health not in _ABSENT:
                raise _NotWellError(f"its health is {health}")
        status, models = await self._get(f"{self.address}/models")
        if status in (401, 403):
            raise _NotWellError("it refuses ENGINE_API_KEY")
        if not 200 <= status < 300 or len(models) > _MOST_LISTED:
            raise _NotWellError(f"it lists no models ({status})")
        served = served_by(models, wanted)
        if served is None:
            raise _NotWellError("it does not serve " + (wanted or "any model"))
        return served

    async def _get(self, url: str) -> tuple[int, bytes]:
        """The status and the body, of which no more is read than a list of models may have. Raises httpx2.HTTPError,
        TimeoutError."""
        body = bytearray()
        async with (
            asyncio.timeout(_PROBE_SECONDS),
            self._client.stream("GET", url) as response,
            aclosing(response.aiter_bytes()) as pieces,
        ):
            async for piece in pieces:
                body += piece
                if len(body) > _MOST_LISTED:
                    break
        return response.status_code, bytes(body)


class _NotWellError(Exception):
    """A server answers, and cannot be used. The message says why, for the log."""


def _name(address: str) -> str:
    """For labels and log lines: without what may be a password, and without the path that all have."""
    parts = urlsplit(address)
    return parts.netloc.rpartition("@")[2] + parts.path.removesuffix(_BASE)
