"""What an engine's status means to those who ask for an answer."""

from app.contract.engine import EngineStatus, Phase
from app.contract.errors import EngineStalled, ModelLoading, NotReady, ShuttingDown

_LOADING = (Phase.STARTING, Phase.LOADING, Phase.WARMING)
_RESTART_SECONDS = 10.0  # after which a restarted process listens again


def refusal(status: EngineStatus) -> NotReady | None:
    """Why no request is taken at the moment; None when it is."""
    if status.phase is Phase.FAILED:
        return NotReady("The model could not be loaded; the server's log says why.", retry_after=_RESTART_SECONDS)
    if not status.alive:
        return EngineStalled("The engine makes no progress and is being restarted.", retry_after=_RESTART_SECONDS)
    if status.phase in _LOADING:
        return ModelLoading(
            f"The model is not ready yet: {status.phase}, {status.progress:.0%} done.",
            retry_after=_until_ready(status),
        )
    if status.phase is not Phase.READY:
        return ShuttingDown("The server is shutting down.", retry_after=_RESTART_SECONDS)
    return None


def _until_ready(status: EngineStatus) -> float:
    """As long again as it took so far for the part that is missing; 1 to 30 seconds."""
    missing = status.elapsed * (1 - status.progress) / max(status.progress, 0.05)
    return float(round(min(30.0, max(1.0, missing))))
