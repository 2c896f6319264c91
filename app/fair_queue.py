"""Items that wait, of several tenants: in the order of arrival within a tenant, and the tenants take turns; and
places that are handed out so.

The bound: from the moment that an item is its tenant's first, each other tenant has at most one turn before it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Not safe under threads."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[Item]] = {}  # in the order of the tenants' turns; none is empty

    def __bool__(self) -> bool:
        return bool(self._queues)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    def __iter__(self) -> Iterator[Item]:
        for queue in self._queues.values():
            yield from queue

    def tenants(self) -> list[str]:
        """Those that wait, in the order of their turns."""
        return list(self._queues)

    def count(self, tenant: str) -> int:
        return len(self._queues.get(tenant, ()))

    def add(self, tenant: str, item: Item) -> None:
        """Behind the tenant's others. The first turn of a tenant without any comes after those of all others."""
        self._queues.setdefault(tenant, deque()).append(item)

    def put_back(self, tenant: str, item: Item) -> None:
        """Before the tenant's others."""
        self._queues.setdefault(tenant, deque()).appendleft(item)

    def next(self, suits: Callable[[Item], bool] = lambda _: True) -> Item | None:
        """Of the tenants' first items the one in turn that suits; None when none does."""
        return next((queue[0] for queue in self._queues.values() if suits(queue[0])), None)

    def take(self, tenant: str) -> Item:
        """The tenant's first item. Its next turn comes after those of all others."""
        queue = self._queues.pop(tenant)
        item = queue.popleft()
        if queue:
            self._queues[tenant] = queue
        return item

    def remove(self, tenant: str, item: Item) -> None:
        """Raises KeyError or ValueError when it does not wait."""
        queue = self._queues[tenant]
        queue.remove(item)
        if not queue:
            del self._queues[tenant]


class FairPlaces:
    """So many at once, of which one tenant has at most `most_of_one`; the others wait. Used on one event loop.

    `changed` is told how many have a place, and how many wait.
    """

    def __init__(
        self,
        number: int,
        *,
        most_of_one: int | None = None,
        changed: Callable[[int, int], object] = lambda _taken, _waiting: None,
    ) -> None:
        self._number = number
        self._most_of_one = number if most_of_one is None else most_of_one
        self._changed = changed
        self._taken: Counter[str] = Counter()
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue()

    def waiting(self, tenant: str) -> int:
        return self._waiting.count(tenant)

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
                self._give_back(tenant)
            elif turn in self._waiting:
                self._waiting.remove(tenant, turn)
                self._tell()
            raise
        try:
            yield
        finally:
            self._give_back(tenant)

    def _give_back(self, tenant: str) -> None:
        self._taken -= Counter({tenant: 1})
        self._hand_out()

    def _hand_out(self) -> None:
        """Give the free places to the tenants in turn."""
        while self._taken.total() < self._number:
            free = (each for each in self._waiting.tenants() if self._taken[each] < self._most_of_one)
            tenant = next(free, None)
            if tenant is None:
                break
            turn = self._waiting.take(tenant)
            if not turn.cancelled():
                self._taken[tenant] += 1
                turn.set_result(None)
        self._tell()

    def _tell(self) -> None:
        self._changed(self._taken.total(), len(self._waiting))
