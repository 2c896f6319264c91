"""Start, watch, drain and stop the engine with the process.

The drain begins at the signal and not in the lifespan's shutdown: uvicorn gets there only after it has waited for
every open connection, and refuses new ones meanwhile. So the server gets the signal only after the engine has
drained. Meanwhile new requests get a 503, and running answers have `drain_seconds` to finish; those that still run
then end with the error Interrupted.
"""

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from app.contract.engine import Phase, Runs
from app.contract.readiness import loss
from app.contract.telemetry import LoopLagged, Observers
from app.settings import Settings

EXIT_CODE = 3
"""The only exit code after which gunicorn's master stops too; after any other it starts the worker again at once."""

_WATCH_SECONDS = 0.5
_LATE_SECONDS = 0.5
"""How long requests are still refused, and not met by a closed port, when nothing runs any more. What was taken just
before the signal begins meanwhile: between the two there are only turns of the event loop."""
_STOP_SECONDS = 3.0  # enough for one step, or for loading one weight file
_log = logging.getLogger(__name__)


def exit_process(code: int) -> NoReturn:
    """End the process without waiting for its threads: a lost CUDA context or a stuck step would never end."""
    logging.shutdown()
    os._exit(code)


class Lifecycle:
    def __init__(
        self, engine: Runs, observers: Observers, settings: Settings, leave: Callable[[int], None] = exit_process
    ) -> None:
        self._engine = engine
        self._observers = observers
        self._startup_deadline = settings.startup_deadline
        self._drain_seconds = settings.drain_seconds
        self._leave = leave
        self._stuck = False
        self._watcher: asyncio.Task[None] | None = None
        self._shutdown: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._engine.start()
        self._watcher = asyncio.create_task(self._watch())
        if threading.current_thread() is threading.main_thread():
            self._take_signals()

    async def shut_down(self) -> None:
        """Drain until the deadline, then stop. A second call waits for the first one."""
        if self._shutdown is None:
            self._shutdown = asyncio.create_task(self._drain_and_stop())
        await asyncio.shield(self._shutdown)
        if self._stuck:  # a normal exit would wait for the engine's thread
            _log.critical("the engine does not stop, the process ends without it")
            self._leave(EXIT_CODE)

    async def _drain_and_stop(self, late_seconds: float = 0) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._engine.status().phase is Phase.READY:
            _log.info("draining", extra={"seconds": self._drain_seconds})
            try:
                async with asyncio.timeout(self._drain_seconds):
                    await self._engine.drain()
                    if late_seconds:
                        await asyncio.sleep(late_seconds)
                        await self._engine.drain()
            except TimeoutError:
                _log.warning("answers still run at the end of the drain: they end with an error")
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._engine.stop()
        except TimeoutError:
            self._stuck = True

    async def _watch(self) -> None:
        while (reason := self._fatal()) is None:
            slept_at = time.monotonic()
            await asyncio.sleep(_WATCH_SECONDS)
            lag = time.monotonic() - slept_at - _WATCH_SECONDS
            self._observers.notify(LoopLagged(max(0.0, lag)))
        _log.critical("the engine is lost, the process ends: %s", reason)
        self._leave(EXIT_CODE)

    def _fatal(self) -> str | None:
        status = self._engine.status()
        lost = loss(status)
        if lost is not None:
            return f"{lost.code}: {status.detail}"
        if status.phase.is_startup and status.elapsed > self._startup_deadline:
            return f"not ready after {self._startup_deadline:.0f} seconds (STARTUP_DEADLINE): {status.detail}"
        return None

    def _take_signals(self) -> None:
        """Replace the signal handlers that the server has just installed. It restores the earlier ones itself at its
        end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            pass_on = signal.getsignal(number)
            if callable(pass_on):
                signal.signal(number, self._handler(loop, pass_on))

    def _handler(
        self, loop: asyncio.AbstractEventLoop, pass_on: Callable[[int, FrameType | None], object]
    ) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            if self._shutdown is not None:  # a second signal: now
                pass_on(number, frame)
                return
            loop.call_soon_threadsafe(self._drain_then, lambda: pass_on(number, frame))

        return handle

    def _drain_then(self, pass_on: Callable[[], object]) -> None:
        if self._shutdown is None:
            self._shutdown = asyncio.create_task(self._drain_and_stop(_LATE_SECONDS))
        self._shutdown.add_done_callback(lambda _: pass_on())
