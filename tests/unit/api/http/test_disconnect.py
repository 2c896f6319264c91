"""A client that leaves: its work is cancelled, and what the request holds is held until the work has ended."""

import asyncio

import pytest
from starlette.requests import Request
from starlette.types import Message

from app.api.http.disconnect import unless_client_leaves
from app.contract.errors import ClientClosed


async def test_work_that_takes_time_to_end_is_waited_for() -> None:
    begun, cancelled, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def receive() -> Message:
        await begun.wait()
        return {"type": "http.disconnect"}

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
            await ended.wait()

    waiting = asyncio.create_task(unless_client_leaves(Request({"type": "http"}, receive), work()))
    await cancelled.wait()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    ended.set()
    with pytest.raises(ClientClosed):
        await waiting
