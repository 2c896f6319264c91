"""The page's real files, in front of an API that a test plays piece by piece."""

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from app.api.playground.files import load_page
from app.api.playground.routes import playground_router
from tests.support.patience import PATIENCE

USAGE = {
    "prompt_tokens": 31,
    "completion_tokens": 5,
    "total_tokens": 36,
    "prompt_tokens_details": {"cached_tokens": 16},
}
TIMINGS = {"queue_seconds": 0.012, "prefill_seconds": 0.25, "decode_seconds": 0.5, "tokens_per_second": 8.0}


class Cut(Exception):
    """The server's end of a connection that breaks."""


@dataclass
class Asked:
    """One request for an answer, which the test writes."""

    body: dict[str, Any]
    raw: bytes
    key: str | None
    frames: "asyncio.Queue[dict[str, Any] | str | Cut | None]" = field(default_factory=asyncio.Queue)
    left: asyncio.Event = field(default_factory=asyncio.Event)

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self.frames.put_nowait(_chunk({"content": piece}))

    def finish(self, reason: str = "stop") -> None:
        self.frames.put_nowait(_chunk({}, reason))
        self.frames.put_nowait({"choices": [], "usage": USAGE, "timings": TIMINGS})
        self.frames.put_nowait("[DONE]")

    def fail(self, message: str) -> None:
        self.frames.put_nowait({"error": {"message": message, "type": "server_error", "param": None, "code": "x"}})
        self.frames.put_nowait("[DONE]")

    def end_early(self, message: str) -> None:
        """As at the deadline: the choice says why."""
        chunk = _chunk({}, "length")
        chunk["choices"][0]["error"] = {"message": message, "type": "server_error", "param": None, "code": "x"}
        self.frames.put_nowait(chunk)
        self.frames.put_nowait("[DONE]")

    def cut(self) -> None:
        self.frames.put_nowait(Cut())

    def end(self) -> None:
        """In good order, without another word."""
        self.frames.put_nowait(None)


@dataclass
class Played:
    """`startup` and `readiness` are what the probes say, once they are `told`.

    `refusals` are what the next questions get instead of an answer.
    """

    url: str = ""
    startup: tuple[int, dict[str, Any]] = (200, {"status": "started", "phase": "ready", "progress": 1.0})
    readiness: tuple[int, dict[str, Any]] = (200, {"status": "ready", "model": "smollm2-135m"})
    told: asyncio.Event = field(default_factory=asyncio.Event)
    refusals: list[tuple[int, str, str, dict[str, str]]] = field(default_factory=list)
    key: str | None = None
    key_refusal: str = "This server needs an API key."
    asked: "asyncio.Queue[Asked]" = field(default_factory=asyncio.Queue)

    async def question(self) -> Asked:
        return await asyncio.wait_for(self.asked.get(), PATIENCE)

    async def answer(self, *pieces: str) -> Asked:
        """The next question gets this whole answer."""
        question = await self.question()
        question.say(*pieces)
        question.finish()
        return question


def _chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


def _error(status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return JSONResponse({"error": error}, status, headers)


async def _stream(asked: Asked) -> AsyncGenerator[str, None]:
    yield ": keep-alive\n\n"
    while True:
        frame = await asked.frames.get()
        if isinstance(frame, Cut):
            raise frame
        if frame is None:
            return
        yield f"data: {frame if isinstance(frame, str) else json.dumps(frame)}\n\n"
        if frame == "[DONE]":
            return


class _Answer(StreamingResponse):
    """Notes its end here and not in the generator: who leaves before the first byte never starts that."""

    def __init__(self, asked: Asked) -> None:
        headers = {"x-request-id": "4f2a" * 8}
        super().__init__(_stream(asked), media_type="text/event-stream", headers=headers)
        self._asked = asked

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._asked.left.set()


def _app(played: Played) -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.include_router(playground_router(load_page()))

    @app.get("/startupz")
    async def startup() -> Response:
        await played.told.wait()
        status, body = played.startup
        return JSONResponse(body, status)

    @app.get("/readyz")
    async def ready() -> Response:
        status, body = played.readiness
        return JSONResponse(body, status)

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        if played.key is not None and key != played.key:
            return _error(401, "invalid_api_key", played.key_refusal, {})
        if played.refusals:
            return _error(*played.refusals.pop(0))
        raw = await request.body()
        asked = Asked(json.loads(raw), raw, key)
        played.asked.put_nowait(asked)
        return _Answer(asked)

    return app


class _Server(uvicorn.Server):
    def __init__(self, app: FastAPI) -> None:
        super().__init__(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None))
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # Ctrl-C is pytest's


@asynccontextmanager
async def serving() -> AsyncGenerator[Played, None]:
    played = Played()
    played.told.set()
    server = _Server(_app(played))
    task = asyncio.create_task(server.serve())
    try:
        await asyncio.wait_for(server.up.wait(), PATIENCE)
        played.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        yield played
    finally:
        server.should_exit = server.force_exit = True
        await task
