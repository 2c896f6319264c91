"""Commands from the event loop to the inference thread."""

from dataclasses import dataclass

from app.contract.requests import EngineRequest
from app.engine.grammars.constraint import Constraint


@dataclass(frozen=True, slots=True)
class Submit:
    request: EngineRequest
    constraint: Constraint | None = None  # what the request's grammar was compiled to


@dataclass(frozen=True, slots=True)
class Cancel:
    request_id: str


@dataclass(frozen=True, slots=True)
class Stop:
    """End every request with Interrupted, then the thread."""


Command = Submit | Cancel | Stop
