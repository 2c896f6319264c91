"""How many pages each tenant's sequences hold, counted as pages come and go: no step counts all of them."""

from collections import Counter


class HeldPages:
    def __init__(self) -> None:
        self._holders: dict[str, Counter[int]] = {}  # by tenant: how many of its sequences hold a page

    def add(self, tenant: str, page: int) -> None:
        self._holders.setdefault(tenant, Counter())[page] += 1

    def drop(self, tenant: str, page: int) -> None:
        pages = self._holders[tenant]
        pages[page] -= 1
        if not pages[page]:
            del pages[page]
        if not pages:
            del self._holders[tenant]

    def count(self, tenant: str) -> int:
        """Pages that several of its sequences share count once."""
        return len(self._holders.get(tenant, ()))
