"""The process ends when its engine is lost, and an orderly shutdown gives running answers their time."""

import asyncio
import os
import signal

import pytest

from app.contract.engine import Phase
from app.contract.errors import Interrupted
from app.contract.events import Finished
from app.contract.requests import EngineRequest, SamplingParams
from app.contract.telemetry import Observers
from app.lifecycle import EXIT_CODE, Lifecycle
from app.settings import Settings
from tests.support.controlled import ControlledEngine

TAKE_SIGNALS = Lifecycle._take_signals  # the other tests leave them to pytest
REQUEST = EngineRequest(id="r", tokens=(1, 2), max_tokens=3, sampling=SamplingParams(seed=1))


@pytest.fixture(autouse=True)
def no_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Lifecycle, "_take_signals", lambda _: None)  # they are pytest's
    monkeypatch.setattr("app.lifecycle._WATCH_SECONDS", 0)


@pytest.mark.parametrize(
    ("phase", "alive", "startup_deadline"),
    [(Phase.FAILED, True, 60), (Phase.READY, False, 60), (Phase.LOADING, True, 1e-9), (Phase.WARMING, True, 1e-9)],
)
async def test_a_lost_engine_ends_the_process(
    phase: Phase, alive: bool, startup_deadline: float, caplog: pytest.LogCaptureFixture
) -> None:
    codes: asyncio.Queue[int] = asyncio.Queue()
    engine = ControlledEngine(ready=False)
    settings = Settings(startup_deadline=startup_deadline)
    await Lifecycle(engine, Observers(), settings, leave=codes.put_nowait).start()
    engine.become(phase, 0.5, "the reason", alive=alive)
    assert await asyncio.wait_for(codes.get(), 30) == EXIT_CODE
    assert "the reason" in caplog.text


async def test_a_healthy_engine_is_left_alone() -> None:
    codes: asyncio.Queue[int] = asyncio.Queue()
    engine = ControlledEngine(ready=False)
    lifecycle = Lifecycle(engine, Observers(), Settings(), leave=codes.put_nowait)
    await lifecycle.start()
    for phase in (Phase.LOADING, Phase.WARMING, Phase.READY):
        engine.become(phase)
        for _ in range(5):
            await asyncio.sleep(0)
    await lifecycle.shut_down()
    assert codes.empty()
    assert engine.status().phase is Phase.STOPPED


async def test_a_running_answer_finishes_within_the_drain() -> None:
    gate = asyncio.Event()
    engine = ControlledEngine(gates={1: gate})
    lifecycle = Lifecycle(engine, Observers(), Settings(drain_seconds=60))
    await lifecycle.start()
    events = await engine.open(REQUEST)
    await anext(events)
    shutdown = asyncio.create_task(lifecycle.shut_down())
    while engine.status().phase is not Phase.DRAINING:  # noqa: ASYNC110  # the protocol has no event for it
        await asyncio.sleep(0)
    gate.set()
    rest = [event async for event in events]
    assert isinstance(rest[-1], Finished)
    assert rest[-1].error is None
    await shutdown
    assert engine.status().phase is Phase.STOPPED


async def test_after_a_signal_an_idle_engine_refuses_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in front of several boxes learns of it before the port closes; what was taken just before begins."""
    monkeypatch.setattr(Lifecycle, "_take_signals", TAKE_SIGNALS)
    passed_on = asyncio.Event()
    monkeypatch.setattr("app.lifecycle._LATE_SECONDS", 3600)
    before = signal.signal(signal.SIGTERM, lambda *_: passed_on.set())
    try:
        engine = ControlledEngine()
        await Lifecycle(engine, Observers(), Settings(drain_seconds=1)).start()
        events = await engine.open(REQUEST)
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            await asyncio.sleep(0)
        assert engine.status().phase is Phase.DRAINING
        *_, end = [event async for event in events]
        assert isinstance(end, Finished)
        assert end.error is None
        assert not passed_on.is_set()
        await asyncio.wait_for(passed_on.wait(), 30)
        assert engine.status().phase is Phase.STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_one_that_takes_longer_ends_with_an_error() -> None:
    engine = ControlledEngine(gates={1: asyncio.Event()})
    lifecycle = Lifecycle(engine, Observers(), Settings(drain_seconds=0))
    await lifecycle.start()
    events = await engine.open(REQUEST)
    await anext(events)
    rest = asyncio.ensure_future(anext(events))
    await asyncio.gather(lifecycle.shut_down(), lifecycle.shut_down())  # asked twice, done once
    end = await rest
    assert isinstance(end, Finished)
    assert isinstance(end.error, Interrupted)


async def test_an_engine_that_does_not_stop_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wedged(ControlledEngine):
        async def stop(self) -> None:
            await asyncio.Event().wait()

    monkeypatch.setattr("app.lifecycle._STOP_SECONDS", 0.01)
    codes: asyncio.Queue[int] = asyncio.Queue()
    lifecycle = Lifecycle(Wedged(), Observers(), Settings(), leave=codes.put_nowait)
    await lifecycle.start()
    await lifecycle.shut_down()
    assert codes.get_nowait() == EXIT_CODE
