"""Cancels work when its client disconnects. Starlette does so for streams; this module does it for all others."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

from app.contract.errors import ClientClosed

Result = TypeVar("Result")


async def unless_client_leaves(request: Request, work: Coroutine[None, None, Result]) -> Result:
    """The work's result. When the client disconnects first, cancels the work, waits for its end and raises
    ClientClosed.

    The request's body must have been read.
    """
    task = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_disconnect(request))
    try:
        await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientClosed
        return await task
    finally:
        for unfinished in (leaving, task):
            unfinished.cancel()
        await asyncio.gather(leaving, task, return_exceptions=True)


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
