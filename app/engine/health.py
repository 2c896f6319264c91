"""The engine's phase, progress and signs of life: the inference thread writes them, the event loop reads them."""

import threading
import time

from app.contract.engine import Capacity, EngineStatus, Phase
from app.contract.telemetry import Observers, PhaseChanged, PhaseProgress

_ENDS = {Phase.FAILED, Phase.STOPPED}


class Health:
    """Safe under threads."""

    def __init__(self, observers: Observers) -> None:
        self._observers = observers
        self._lock = threading.Lock()
        self._begun = time.monotonic()
        self._phase = Phase.STARTING
        self._progress = 0.0
        self._detail = "importing the libraries"
        self._alive = True
        self._busy_since: float | None = None
        self._capacity: Capacity | None = None

    @property
    def capacity(self) -> Capacity | None:
        """As measured; None until the model is warm."""
        return self._capacity

    def set_capacity(self, capacity: Capacity) -> None:
        self._capacity = capacity

    @property
    def phase(self) -> Phase:
        return self._phase

    def enter(self, phase: Phase, detail: str) -> None:
        """Change the phase. FAILED and STOPPED are final, and a load that finishes meanwhile does not end a drain."""
        with self._lock:
            if self._phase in _ENDS or (self._phase is Phase.DRAINING and phase not in _ENDS):
                return
            self._phase, self._detail = phase, detail
            self._progress = 1.0 if phase is Phase.READY else 0.0
            elapsed = time.monotonic() - self._begun
        self._observers.notify(PhaseChanged(phase.value, detail, elapsed))

    def set_progress(self, share: float) -> None:
        self._progress = share
        self._observers.notify(PhaseProgress(share))

    def fail(self, reason: str) -> None:
        self._alive = False
        self.enter(Phase.FAILED, reason)

    def mark_progress(self, *, busy: bool) -> None:
        """Called between steps: the thread is about to compute one (busy), or to wait for work."""
        self._busy_since = time.monotonic() if busy else None

    def stalled(self, deadline: float) -> bool:
        """Whether one step has been running for longer than `deadline` seconds."""
        since = self._busy_since
        return since is not None and time.monotonic() - since > deadline

    def status(self) -> EngineStatus:
        return EngineStatus(self._phase, self._progress, self._detail, time.monotonic() - self._begun, self._alive)
