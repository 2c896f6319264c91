"""The events of an answer of another server, which may be asked before the first event is wanted."""

import asyncio
import time
from collections.abc import AsyncGenerator

from app.contract.events import Finished
from app.remote.answer_reader import NewText
from app.remote.asking import Accepted


class Asked:
    """Like the generator of the events, without Accepted. Until `begin` or the first event no server is asked."""

    def __init__(self, events: AsyncGenerator[Accepted | NewText | Finished, None]) -> None:
        self._events = events
        self._first: asyncio.Task[Accepted | NewText | Finished] | None = None

    def begin(self) -> None:
        self._first = asyncio.create_task(_next_of(self._events))

    async def accepted(self, give_up_at: float) -> None:
        """Returns when a server has accepted, or at that moment. Raises the refusal that comes until then."""
        if self._first is not None:
            timeout = max(0.0, give_up_at - time.monotonic())
            done, _ = await asyncio.wait({self._first}, timeout=timeout)
            if done:
                self._first.result()

    async def __anext__(self) -> NewText | Finished:
        while True:
            first, self._first = self._first, None
            event = await (anext(self._events) if first is None else first)
            if not isinstance(event, Accepted):
                return event

    async def aclose(self) -> None:
        """End the request, if it still runs."""
        first, self._first = self._first, None
        if first is not None:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
        await self._events.aclose()


async def _next_of(events: AsyncGenerator[Accepted | NewText | Finished, None]) -> Accepted | NewText | Finished:
    return await anext(events)
