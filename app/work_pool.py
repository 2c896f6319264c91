"""Threads for work that takes too long for the event loop, shared fairly between tenants.

A thread cannot be stopped. So a caller that is cancelled while a thread works for it waits until the thread has
ended, and holds its place as long: a client that asks and leaves again and again takes no more than its share.
"""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from app.contract.errors import Overloaded
from app.fair_queue import FairPlaces

Given = ParamSpec("Given")
Result = TypeVar("Result")

_MOST_WAITING = 128
"""Jobs of one tenant that wait for a thread."""


class WorkPool:
    """Threads, of which one tenant uses at most half at once. Used on one event loop.

    Waiting tenants take turns, however many jobs each of them has. The name says what the jobs read or make: it is in
    the names of the threads and in the refusal.
    """

    def __init__(self, name: str, *, threads: int) -> None:
        self._name = name
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._places = FairPlaces(threads, most_of_one=max(1, threads // 2))

    async def run(
        self, tenant: str, work: Callable[Given, Result], *given: Given.args, **named: Given.kwargs
    ) -> Result:
        """What `work` returns or raises, on a thread. Raises Overloaded when too many jobs of the tenant wait.

        When the caller is cancelled, it is so once the thread has ended; a job that still waits never begins.
        """
        if self._places.waiting(tenant) >= _MOST_WAITING:
            raise Overloaded(
                f"{_MOST_WAITING} jobs ({self._name}) of this API key, or of all clients without a key, already "
                "wait: no more may. Send fewer requests at once.",
                retry_after=1,
                reason="preparing",
            )
        async with self._places.place(tenant):
            job = partial(contextvars.copy_context().run, work, *given, **named)
            return await _to_its_end(asyncio.get_running_loop().run_in_executor(self._executor, job))


async def _to_its_end(work: asyncio.Future[Result]) -> Result:
    """The result; a cancellation is raised when the work has ended."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # looked at, so that asyncio does not complain
        raise cancelled
    return work.result()
