"""The bodies of running requests together: a share for each tenant, and a bound for all."""

import asyncio

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.http.middleware.body_limit import BodyLimit
from app.contract.errors import Overloaded


class Held:
    """An application that reads its body and runs until the test ends it."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.read = asyncio.Event()

    async def __call__(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        await receive()
        self.read.set()
        await self.end.wait()


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> BodyLimit:
    monkeypatch.setattr("app.api.http.middleware.body_limit._MOST_BODIES", 4)
    return BodyLimit(Held(), max_bytes=10)  # 40 bytes for all, 20 for a tenant


async def start(limit: BodyLimit, tenant: str, size: int) -> asyncio.Task[None]:
    """A request whose body was read; raises what reading it raised."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * size}

    async def send(_: Message) -> None:
        raise AssertionError

    held = limit._app
    assert isinstance(held, Held)
    held.read.clear()
    scope = {"type": "http", "headers": [], "state": {"tenant": tenant}}
    request = asyncio.create_task(limit(scope, receive, send))
    read = asyncio.create_task(held.read.wait())
    await asyncio.wait([request, read], return_when=asyncio.FIRST_COMPLETED)
    read.cancel()
    if request.done():
        request.result()
    return request


async def test_a_tenant_holds_half_and_leaves_the_rest_to_others(limit: BodyLimit) -> None:
    running = [await start(limit, "blue", 10), await start(limit, "blue", 10)]
    with pytest.raises(Overloaded, match=r"of this API key, .* more than 20 bytes"):
        await start(limit, "blue", 1)
    running.append(await start(limit, "red", 10))
    held = limit._app
    assert isinstance(held, Held)
    held.end.set()
    await asyncio.gather(*running)
    await (await start(limit, "blue", 10))  # what ended is no longer counted


async def test_two_tenants_at_half_leave_every_other_one_its_share(limit: BodyLimit) -> None:
    running = [await start(limit, tenant, 10) for tenant in ("blue", "blue", "red", "red")]
    running.append(await start(limit, "green", 10))
    with pytest.raises(Overloaded, match=r"of this API key, .* more than 13 bytes"):
        await start(limit, "green", 4)
    with pytest.raises(Overloaded, match="of this API key"):
        await start(limit, "red", 1)
    running.append(await start(limit, "grey", 9))
    held = limit._app
    assert isinstance(held, Held)
    held.end.set()
    await asyncio.gather(*running)


async def test_beside_small_neighbours_the_limit_that_is_told_is_half(limit: BodyLimit) -> None:
    running = [await start(limit, tenant, size) for tenant, size in (("red", 1), ("green", 1), ("blue", 10))]
    running.append(await start(limit, "blue", 10))
    with pytest.raises(Overloaded, match="more than 20 bytes"):
        await start(limit, "blue", 1)
    held = limit._app
    assert isinstance(held, Held)
    held.end.set()
    await asyncio.gather(*running)
