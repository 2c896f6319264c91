"""What ends a request from outside: its deadline, and the end of this server."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from app.contract.errors import DeadlineExceeded
from app.contract.readiness import interrupted

Result = TypeVar("Result")


class Ending:
    """Used on one event loop."""

    def __init__(self) -> None:
        self._stopped = False
        self._timers: set[asyncio.Timeout] = set()

    def stop(self) -> None:
        """Everything that waits ends with Interrupted, and so does what would wait later."""
        self._stopped = True
        for timer in self._timers:
            timer.reschedule(asyncio.get_running_loop().time())

    async def within(self, deadline_at: float, work: Awaitable[Result]) -> Result:
        """The work's result. Raises DeadlineExceeded, Interrupted."""
        timer = asyncio.timeout_at(0 if self._stopped else deadline_at)  # the loop's clock is the monotonic one
        try:
            async with timer:
                self._timers.add(timer)
                return await work
        except TimeoutError:
            raise (interrupted() if self._stopped else DeadlineExceeded()) from None
        finally:
            self._timers.discard(timer)
