"""Streams that are silent send comments, and what they wait for ends with them."""

import asyncio
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


def test_a_frame_is_one_line_whatever_the_text_holds() -> None:
    text = frame({"delta": "a\n\ndata: b\r\n 你好"})
    assert text.count("\n") == 2
    assert text.endswith("\n\n")
    assert "你好" in text
