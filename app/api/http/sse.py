"""Server-sent events."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

HEARTBEAT_SECONDS = 15.0
"""Proxies close a stream that is silent for a minute; waiting and a long prompt can take longer."""

HEARTBEAT = ": keep-alive\n\n"
"""A comment: no client sees it."""

DONE = "data: [DONE]\n\n"
"""The last frame of OpenAI's streams."""


_LINE_ENDS = {end: f"\\u{end:04x}" for end in (0x85, 0x2028, 0x2029)}
"""Line ends that JSON leaves as they are. Clients that read with Python's `splitlines` would cut an event there."""


def frame(data: Any) -> str:
    """One event. Every line end within it is escaped, so the data is one line."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"data: {text if text.isascii() else text.translate(_LINE_ENDS)}\n\n"


def named_frame(name: str, data: Any) -> str:
    """One event with a name, for clients that look at it."""
    return f"event: {name}\n{frame(data)}"


async def with_heartbeats(
    frames: AsyncIterator[str], every: float = HEARTBEAT_SECONDS, heartbeat: str = HEARTBEAT
) -> AsyncGenerator[str, None]:
    """The frames, and a heartbeat whenever there was none for this many seconds."""
    waiting: asyncio.Task[str] | None = None
    try:
        while True:
            waiting = waiting or asyncio.create_task(_next(frames))
            done, _ = await asyncio.wait({waiting}, timeout=every)
            if not done:
                yield heartbeat
                continue
            try:
                next_frame = waiting.result()
            except StopAsyncIteration:
                return
            waiting = None
            yield next_frame
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


class EventStream(StreamingResponse):
    """A stream of the frames of an answer. However it ends, it closes the answer."""

    media_type = "text/event-stream"

    def __init__(
        self, answer: AbstractAsyncContextManager[Any], frames: AsyncIterator[str], heartbeat: str = HEARTBEAT
    ) -> None:
        super().__init__(
            with_heartbeats(frames, HEARTBEAT_SECONDS, heartbeat),
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._answer:
            await super().__call__(scope, receive, send)


async def _next(frames: AsyncIterator[str]) -> str:
    return await anext(frames)
