"""The local engine's part on the event loop: it sends commands to the inference thread, receives the events of all
requests, and notices a step that does not end.

torch is not imported here: that takes seconds, in which the app already answers its probes. `app.engine.thread`
imports it, on the inference thread.
"""

import asyncio
import faulthandler
import logging
import queue
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import suppress

from app.contract.engine import Capacity, EngineStatus, ModelInfo, Phase
from app.contract.events import EngineEvent, Finished
from app.contract.readiness import refuse_unless_open, refuse_unless_ready
from app.contract.requests import EngineRequest
from app.contract.telemetry import Observers
from app.engine.commands import Cancel, Command, Stop, Submit
from app.engine.config import EngineConfig
from app.engine.grammars.compiler import Grammars
from app.engine.grammars.constraint import Constraint
from app.engine.health import Health
from app.engine.libraries import set_library_options
from app.models.driver import use_bus_order

_log = logging.getLogger(__name__)

WATCH_SECONDS = 1.0


class LocalEngine:
    """Runs a model of this machine. See `app.contract.engine.Engine`."""

    def __init__(self, config: EngineConfig, observers: Observers) -> None:
        self._config = config
        self._observers = observers
        self._health = Health(observers)
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._listeners: dict[str, asyncio.Queue[EngineEvent]] = {}
        self._grammars = Grammars(config.folder, config.model)
        self._idle = asyncio.Event()
        self._thread: threading.Thread | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def model(self) -> ModelInfo:
        return self._config.model

    @property
    def capacity(self) -> Capacity:
        """The plan's until the memory was measured."""
        return self._health.capacity or self._config.capacity

    def status(self) -> EngineStatus:
        return self._health.status()

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run_thread, name="inference", daemon=True)
        self._thread.start()
        self._watch = asyncio.create_task(self._watch_over())

    async def drain(self) -> None:
        self._health.enter(Phase.DRAINING, "finishing the running requests")
        while self._listeners:
            self._idle.clear()
            await self._idle.wait()

    async def stop(self) -> None:
        self._commands.put(Stop())
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join)
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._health.phase is not Phase.FAILED:
            self._health.enter(Phase.STOPPED, "")

    async def open(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        refuse_unless_ready(self._health.status())
        constraint = None
        if request.grammar is not None:
            constraint = await self._grammars.constraint(request.grammar, request.tenant)
        return self._events(request, constraint)

    async def _events(
        self, request: EngineRequest, constraint: Constraint | None
    ) -> AsyncGenerator[EngineEvent, None]:
        refuse_unless_open(self._health.status())
        events: asyncio.Queue[EngineEvent] = asyncio.Queue()
        self._listeners[request.id] = events
        self._commands.put(Submit(request, constraint))
        over = False
        try:
            while not over:
                event = await events.get()
                over = isinstance(event, Finished)
                if over:
                    self._forget(request.id)
                yield event
        finally:
            if not over:
                self._commands.put(Cancel(request.id))
                self._forget(request.id)

    def _forget(self, request_id: str) -> None:
        self._listeners.pop(request_id, None)
        if not self._listeners:
            self._idle.set()

    def _run_thread(self) -> None:
        """The inference thread's body."""
        set_library_options()
        try:
            use_bus_order()
            from app.engine.thread import run_inference  # noqa: PLC0415  # imports torch, on the thread that uses it

            run_inference(self._config, self._observers, self._health, self._commands, self._emit)
        except Exception as error:  # noqa: BLE001  # the thread must not end unnoticed
            _log.exception("the inference thread ended")
            self._health.fail(f"{type(error).__name__}: {error}")

    def _emit(self, batch: list[tuple[str, EngineEvent]]) -> None:
        """Called on the inference thread, once per step."""
        with suppress(RuntimeError):  # the loop is closed, and with it every reader
            self._loop.call_soon_threadsafe(self._deliver, batch)

    def _deliver(self, batch: list[tuple[str, EngineEvent]]) -> None:
        for request_id, event in batch:
            listener = self._listeners.get(request_id)
            if listener is not None:
                listener.put_nowait(event)

    async def _watch_over(self) -> None:
        """Mark an engine as failed whose step does not end. `app.lifecycle` then ends the process."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._health.stalled(self._config.stall_deadline):
                _log.critical("the engine makes no progress; the stacks of all threads follow on stderr")
                faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
                self._health.fail("the engine had work and made no progress")
                return
