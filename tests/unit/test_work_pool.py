"""Threads for work of requests: bounded for each tenant, and held until the work has ended."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from app.contract.errors import Overloaded
from app.work_pool import WorkPool


class Gate:
    """Work that lasts until the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.began = asyncio.Event()
        self.begun = 0
        self._loop = asyncio.get_running_loop()

    def work(self) -> str:
        self.begun += 1
        self._loop.call_soon_threadsafe(self.began.set)
        assert self.opened.wait(30)
        return "done"


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()  # no thread outlives its test


async def test_the_result_and_the_error_are_the_works() -> None:
    pool = WorkPool("test", threads=2)
    assert await pool.run("a", "{}{}".format, 1, 2) == "12"
    with pytest.raises(ZeroDivisionError):
        await pool.run("a", lambda: 1 // 0)


async def test_a_tenant_with_many_jobs_leaves_a_thread_to_the_others(gate: Gate) -> None:
    pool = WorkPool("test", threads=2)
    flood = [asyncio.create_task(pool.run("a", gate.work)) for _ in range(50)]
    await gate.began.wait()
    assert await asyncio.wait_for(pool.run("b", lambda: "b"), 30) == "b"
    assert gate.begun == 1
    gate.opened.set()
    assert set(await asyncio.gather(*flood)) == {"done"}


async def test_waiting_tenants_take_turns() -> None:
    pool, order = WorkPool("test", threads=1), list[str]()
    tenants = ["a"] * 5 + ["b"] * 2 + ["c"]
    await asyncio.gather(*(pool.run(tenant, order.append, tenant) for tenant in tenants))
    assert order == ["a", "a", "b", "c", "a", "b", "a", "a"]  # the first one began before the others came


async def test_who_leaves_is_held_until_the_thread_has_ended(gate: Gate) -> None:
    pool = WorkPool("test", threads=2)
    left = asyncio.create_task(pool.run("a", gate.work))
    await gate.began.wait()
    for _ in range(3):
        left.cancel()
        await asyncio.sleep(0)
    next_one = asyncio.create_task(pool.run("a", gate.work))
    await pool.run("b", lambda: None)
    assert not left.done()
    assert gate.begun == 1, "the tenant's only thread still works"
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await left
    assert await next_one == "done"


async def test_work_of_one_who_left_before_it_began_never_begins_and_waits_no_more(gate: Gate) -> None:
    pool = WorkPool("test", threads=2)
    first = asyncio.create_task(pool.run("a", gate.work))
    for _ in range(3):  # more than may wait at once
        waiting = [asyncio.create_task(pool.run("a", gate.work)) for _ in range(100)]
        await gate.began.wait()
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        results = await asyncio.gather(*waiting, return_exceptions=True)  # without waiting for the thread
        assert {type(result) for result in results} == {asyncio.CancelledError}
    gate.opened.set()
    assert await first == "done"
    assert await pool.run("a", lambda: "still works") == "still works"
    assert gate.begun == 1


async def test_a_thread_that_is_handed_to_one_who_just_left_goes_to_the_next(gate: Gate) -> None:
    pool, worked = WorkPool("test", threads=1), list[str]()
    leaving: list[asyncio.Task[None]] = []

    async def first() -> None:
        await pool.run("a", gate.work)
        for task in leaving:  # in the step that hands the thread to the first of them
            task.cancel()

    working = asyncio.create_task(first())
    await gate.began.wait()
    leaving += [asyncio.create_task(pool.run(tenant, worked.append, tenant)) for tenant in "bc"]
    last = asyncio.create_task(pool.run("d", worked.append, "d"))
    await asyncio.sleep(0)
    gate.opened.set()
    await working
    await asyncio.wait_for(last, 30)
    ends = await asyncio.gather(*leaving, return_exceptions=True)
    assert {type(end) for end in ends} == {asyncio.CancelledError}
    assert worked == ["d"]
    assert await asyncio.wait_for(pool.run("a", lambda: "free"), 30) == "free"


async def test_too_many_waiting_jobs_of_one_tenant_are_refused(gate: Gate) -> None:
    pool = WorkPool("test", threads=2)
    flood = [asyncio.create_task(pool.run("a", gate.work)) for _ in range(129)]
    await gate.began.wait()
    with pytest.raises(Overloaded) as refusal:
        await pool.run("a", lambda: None)
    assert refusal.value.retry_after is not None
    assert "128 jobs (test)" in refusal.value.message
    assert await pool.run("b", lambda: "b") == "b"
    gate.opened.set()
    await asyncio.gather(*flood)
