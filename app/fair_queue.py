"""Items that wait, of several tenants: in the order of arrival within a tenant, and the tenants take turns.

The bound: from the moment that an item is its tenant's first, each other tenant has at most one turn before it.
"""

from collections import deque
from collections.abc import Callable, Iterator
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
