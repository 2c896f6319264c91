"""Whether an engine takes requests: one table for the service, the engines' own refusals, the probes and
the watch over the process.

The first row that fits the status decides.

    failed                      503 not_ready       the process ends and is started again
    no progress                 503 engine_stalled  the process ends and is started again
    starting, loading, warming  503 model_loading   Retry-After is estimated from the progress
    draining, stopped           503 shutting_down   another process may take over the address
    ready, not reachable        503 upstream_unavailable  a remote engine's servers are asked every few seconds
    ready                       requests are taken
"""

from app.contract.engine import EngineStatus, Phase
from app.contract.errors import (
    EngineStalled,
    Interrupted,
    ModelLoading,
    NotReady,
    ShuttingDown,
    UpstreamUnavailable,
)

RESTART_SECONDS = 10.0
"""After which a restarted process listens again."""

UPSTREAM_SECONDS = 5.0
"""After which a server that could not be reached has been asked again."""

_LONGEST_ESTIMATE = 30.0  # seconds


def loss(status: EngineStatus) -> NotReady | None:
    """The error of an engine that a restart alone can help: the first two rows. Else None."""
    if status.phase is Phase.FAILED:
        return NotReady("The engine failed. The server log gives the reason.", retry_after=RESTART_SECONDS)
    if not status.alive:
        return EngineStalled("The engine makes no progress and is being restarted.", retry_after=RESTART_SECONDS)
    return None


def refusal(status: EngineStatus) -> NotReady | None:
    """The error for a request that comes now; None when the engine takes requests."""
    lost = loss(status)
    if lost is not None:
        return lost
    if status.phase.is_startup:
        return ModelLoading(
            f"The model is not ready yet: {status.phase}, {status.progress:.0%} done.",
            retry_after=_until_ready(status),
        )
    if status.phase is not Phase.READY:
        return shutting_down()
    return None if status.reachable else upstream_unavailable()


def refuse_unless_ready(status: EngineStatus) -> None:
    """Raises NotReady, or the kind of it that fits, for a request that comes now."""
    error = refusal(status)
    if error is not None:
        raise error


def refuse_unless_open(status: EngineStatus) -> None:
    """Raises the same for a request that was taken before, and begins now: a drain lets it."""
    if status.phase is not Phase.DRAINING or loss(status) is not None:
        refuse_unless_ready(status)


def shutting_down() -> ShuttingDown:
    """The error of requests that come while the server stops."""
    return ShuttingDown("The server is shutting down.", retry_after=RESTART_SECONDS)


def interrupted() -> Interrupted:
    """The error of the requests that a server ends when it stops."""
    return Interrupted("The server was shut down before the answer was complete.", retry_after=RESTART_SECONDS)


def upstream_unavailable() -> UpstreamUnavailable:
    """The error of requests that come while no server of a remote engine can be reached."""
    return UpstreamUnavailable(retry_after=UPSTREAM_SECONDS)


def _until_ready(status: EngineStatus) -> float:
    """1 to 30 seconds, as if the rest of the phase went at the speed so far."""
    missing = status.elapsed * (1 - status.progress) / max(status.progress, 0.05)
    return float(round(min(_LONGEST_ESTIMATE, max(1.0, missing))))
