"""What the event loop tells the inference thread."""

from dataclasses import dataclass

from app.contract.messages import EngineRequest


@dataclass(frozen=True, slots=True)
class Submit:
    request: EngineRequest
    arrived_at: float  # monotonic


@dataclass(frozen=True, slots=True)
class Cancel:
    request_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End everything with ShuttingDown, and end the thread."""


Command = Submit | Cancel | Stop
