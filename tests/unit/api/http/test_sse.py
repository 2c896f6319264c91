"""Streams that are silent send comments, and what they wait for ends with them."""

import asyncio
import json
from collections.abc import AsyncGenerator

from app.api.http.sse import HEARTBEAT, frame, with_heartbeats


async def test_silence_is_filled_with_comments() -> None:
    gate = asyncio.Event()

    async def frames() -> AsyncGenerator[str, None]:
        yield "one"
        await gate.wait()
        yield "two"

    stream = with_heartbeats(frames(), every=0.001)
    assert await anext(stream) == "one"
    assert [await anext(stream) for _ in range(3)] == [HEARTBEAT] * 3
    gate.set()
    rest = [text async for text in stream]
    assert [text for text in rest if text != HEARTBEAT] == ["two"]


async def test_leaving_ends_what_is_waited_for() -> None:
    ended = asyncio.Event()

    async def frames() -> AsyncGenerator[str, None]:
        try:
            await asyncio.Event().wait()
            yield "never"
        finally:
            ended.set()

    stream = with_heartbeats(frames(), every=0.001)
    assert await anext(stream) == HEARTBEAT
    await stream.aclose()
    assert ended.is_set()


def test_a_frame_is_one_line_for_every_reader() -> None:
    """Python's line readers know eleven line ends, and JSON escapes only eight of them."""
    data = {"delta": "a\n\ndata: b\r\n\v\f\x1c\x1d\x1e\x85\u2028\u2029 你好"}
    text = frame(data)
    line, end = text.splitlines()
    assert (text.endswith("\n\n"), end) == (True, "")
    assert json.loads(line.removeprefix("data: ")) == data
    assert "你好" in text
