"""Places at the servers: bounded, and tenants take turns."""

import asyncio

from app.remote.places import Places


class Holder:
    """Requests that take a place and hold it until they are let go."""

    def __init__(self, places: Places) -> None:
        self.began: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}
        self._places = places

    def ask(self, tenant: str, name: str) -> asyncio.Task[None]:
        self.ends[name] = asyncio.Event()
        return asyncio.create_task(self._hold(tenant, name))

    async def _hold(self, tenant: str, name: str) -> None:
        async with self._places.place(tenant):
            self.began.append(name)
            await self.ends[name].wait()


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_tenants_take_turns_and_no_more_run_than_there_are_places() -> None:
    told: list[tuple[int, int]] = []
    holder = Holder(Places(1, lambda taken, waiting: told.append((taken, waiting))))
    tasks = [holder.ask("a", f"a{number}") for number in range(3)]
    await turns()
    tasks.append(holder.ask("b", "b0"))
    await turns()
    assert holder.began == ["a0"]
    assert told[-1] == (1, 3)
    for name in ("a0", "a1", "b0", "a2"):
        assert holder.began[-1] == name
        holder.ends[name].set()
        await turns()
    await asyncio.gather(*tasks)
    assert told[-1] == (0, 0)
    assert max(taken for taken, _ in told) == 1


async def test_who_leaves_gives_its_place_or_its_turn_back() -> None:
    told: list[tuple[int, int]] = []
    holder = Holder(Places(1, lambda taken, waiting: told.append((taken, waiting))))
    running, waiting, last = (holder.ask("a", name) for name in ("running", "waiting", "last"))
    await turns()
    waiting.cancel()
    await turns()
    assert told[-1] == (1, 1)
    running.cancel()
    last.cancel()  # in the same turn as the place becomes free
    await asyncio.gather(running, waiting, last, return_exceptions=True)
    assert told[-1] == (0, 0)
    after = holder.ask("b", "after")
    await turns()
    assert holder.began[-1] == "after"
    holder.ends["after"].set()
    await after
