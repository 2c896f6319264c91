"""A server with OpenAI's API that does what a test tells it, also what no server should do."""

import asyncio
import json
import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.types import Receive, Scope, Send

from tests.support.live import LiveServer


@dataclass
class Refuses:
    """Answers a request with a status."""

    status: int
    error: Any = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Streams:
    """Answers with these events: texts are chunks of a chat, bytes are sent as they are. Then it ends as a server
    does, breaks the connection, or sends nothing more until its client leaves."""

    events: tuple[str | bytes, ...] = ("Hello",)
    then: Literal["end", "break", "hang"] = "end"


@dataclass
class Silent:
    """Does not even send a status, until its client leaves; or until it is `released`, and then refuses."""

    released: asyncio.Event = field(default_factory=asyncio.Event)


Play = Refuses | Streams | Silent


class MisbehavingServer:
    """Plays what is queued, one play for each request, and then `otherwise`."""

    def __init__(self, *plays: Play, otherwise: Play = Streams(), owner: str = "vllm", model: str = "m") -> None:  # noqa: B008  # not changed
        self.plays = deque(plays)
        self.otherwise = otherwise
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.health = 200
        self.models: dict[str, Any] = {"data": [{"id": model, "owned_by": owner, "max_model_len": 4096}]}
        self.left = threading.Event()  # a client left before the answer's end
        self._server = LiveServer(self)  # type: ignore[arg-type]  # any ASGI app
        self.port = self._server.port
        self.address = f"{self._server.url}v1"

    def call(self, function: Any) -> None:
        self._server.call(function)

    def close(self) -> None:
        self._server.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        elif scope["path"] == "/health":
            await _whole(send, self.health, b"{}")
        elif scope["path"] == "/v1/models":
            await _whole(send, 200, json.dumps(self.models).encode())
        else:
            await self._play(scope, receive, send)

    async def _play(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(json.loads(body))
        self.headers.append({name.decode(): value.decode() for name, value in scope["headers"]})
        play = self.plays.popleft() if self.plays else self.otherwise
        if isinstance(play, Silent):
            leaving = asyncio.ensure_future(self._leave(receive))
            released = asyncio.ensure_future(play.released.wait())
            await asyncio.wait({leaving, released}, return_when=asyncio.FIRST_COMPLETED)
            if released.done():
                await _whole(send, 429, b"{}")
            leaving.cancel()
            released.cancel()
        elif isinstance(play, Refuses):
            await _whole(send, play.status, json.dumps({"error": play.error or {}}).encode(), play.headers)
        else:
            await self._stream(play, receive, send)

    async def _stream(self, play: Streams, receive: Receive, send: Send) -> None:
        await send(_start(200, {"content-type": "text/event-stream"}))
        for event in play.events:
            await _body(send, event if isinstance(event, bytes) else chunk(event), more=True)
        if play.then == "hang":
            await self._leave(receive)
        elif play.then == "break":
            raise ConnectionAbortedError  # uvicorn closes the connection without the last chunk
        else:
            await _body(send, chunk("", "stop"), more=True)
            usage = {"prompt_tokens": 7, "completion_tokens": len(play.events), "total_tokens": 9}
            await _body(send, _event({"choices": [], "usage": usage}) + b"data: [DONE]\n\n", more=False)

    async def _leave(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.left.set()


def chunk(text: str, reason: str | None = None, **choice: Any) -> bytes:
    """A chunk of a chat, as an event."""
    delta = {"content": text} if text else {}
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": reason, **choice}]})


def _event(data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


async def _whole(send: Send, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
    await send(_start(status, {"content-type": "application/json"} | (headers or {})))
    await _body(send, body, more=False)


def _start(status: int, headers: dict[str, str]) -> dict[str, Any]:
    encoded = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http.response.start", "status": status, "headers": encoded}


async def _body(send: Send, body: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
