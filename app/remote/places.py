"""The places at the servers that compute answers: so many requests at once, and the others wait here."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from app.fair_queue import FairQueue


class Places:
    """Tenants that wait take turns, however many requests each of them has. Used on one event loop.

    `changed` is told how many requests have a place, and how many wait.
    """

    def __init__(self, number: int, changed: Callable[[int, int], None]) -> None:
        self._free = number
        self._number = number
        self._changed = changed
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    @property
    def taken(self) -> int:
        return self._number - self._free

    @asynccontextmanager
    async def place(self, tenant: str) -> AsyncGenerator[None, None]:
        """Waits for a place, and holds it."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.add(tenant, turn)
        self._hand_out()
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():  # a place was handed over at the same time
                self._give_back()
            elif turn in self._waiting:
                self._waiting.remove(tenant, turn)
                self._tell()
            raise
        try:
            yield
        finally:
            self._give_back()

    def _give_back(self) -> None:
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            tenant = self._waiting.tenants()[0]
            turn = self._waiting.take(tenant)
            if not turn.done():
                self._free -= 1
                turn.set_result(None)
        self._tell()

    def _tell(self) -> None:
        self._changed(self.taken, len(self._waiting))
