"""The observer protocol: events for logs, metrics and traces.

The other packages know only `Observers`; `main.py` wires the listeners. An exception of a listener is logged and
never breaks a request. `notify` may be called from the event loop and from the inference thread, so listeners must be
safe under threads and must not block.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from app.contract.events import Finished, FinishReason
from app.contract.requests import GenerationRequest

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several answers to one request: `request` has its own prompt and seed."""

    request: GenerationRequest
    response: str
    reason: FinishReason


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEnded:
    """One request is over: the source of its log line and of its metrics.

    Told exactly once for each request that asked for an answer or was answered with an error, by whoever owns it: the
    service from the moment that it is given a GenerationRequest, and before that the HTTP middleware.

    Without `request` it never became a GenerationRequest (a wrong key, an unknown path, a bad body). Without
    `finished` it was refused before it reached the engine. When more than one answer was wanted, `choices` holds them
    all; `request` and `response` are the first one's, and the rest is of all together: the worst end, the sum of
    tokens, the earliest first token.
    """

    id: str
    status: int  # the HTTP status, also when it could no longer be sent
    error_code: str | None
    duration: float  # seconds from arrival to the last event
    path: str | None = None  # as the client wrote it, where there is no `request`: for the log, never for a label
    request: GenerationRequest | None = None
    model: str | None = None
    response: str = ""
    finished: Finished | None = None
    time_to_first_token: float | None = None  # seconds from arrival
    choices: tuple[Choice, ...] = ()


WaitsFor = Literal["memory", "place"]
"""What the first waiting request lacks: KV memory, or a place in the batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KvTokens:
    """What the KV cache's pages hold, in tokens. A page counts whole, also when it is filled in part."""

    running: int  # pages of one running request
    shared: int  # pages that several running requests share
    cached: int  # pages of no running request, kept for prompts that begin with them
    free: int

    @property
    def used(self) -> int:
        return self.running + self.shared

    @property
    def total(self) -> int:
        return self.used + self.cached + self.free


@dataclass(frozen=True, slots=True)
class Preemptions:
    """Running requests that gave up their pages and were computed again later, by what these or the place went to."""

    growth: int = 0  # pages for requests that run
    page_share: int = 0  # pages for a request within its tenant's share of them
    place_share: int = 0  # a place, likewise

    @property
    def total(self) -> int:
        return self.growth + self.page_share + self.place_share


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLoad:
    """The load of the engine. Sent whenever it changes. The last two count from its start."""

    running: int
    waiting: int
    waits_for: WaitsFor
    kv: KvTokens
    evicted_pages: int
    preemptions: Preemptions


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """Bytes on one device after a cleanup. `peak` is the most that was allocated since the cleanup before.

    For a GPU `allocated` is held by tensors, `reserved` by the allocator, `free` and `total` are the device's.
    Without a GPU the one device is `cpu`: allocated and reserved are the process's resident memory.
    """

    device: str
    allocated: int
    reserved: int
    free: int
    total: int
    peak: int
    alloc_retries: int = 0
    out_of_memory: int = 0


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """The memory cleanup after an answer has run."""

    devices: tuple[DeviceMemory, ...]
    duration: float  # seconds


@dataclass(frozen=True, slots=True)
class StepDone:
    """One forward pass of the engine."""

    kind: Literal["prefill", "decode"]
    sequences: int
    tokens: int
    duration: float  # seconds


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The engine entered another `Phase`."""

    phase: str
    detail: str
    elapsed: float  # seconds since the start


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChosen:
    """The names of the attention kernels of the model that became ready."""

    prefill: str
    decode: str


@dataclass(frozen=True, slots=True)
class KeysRead:
    """The file of API keys was read, or could not be. Then the keys in force are older than the file."""

    outdated: bool


Event = RequestEnded | EngineLoad | CleanedUp | StepDone | PhaseChanged | AttentionChosen | KeysRead


class Observer(Protocol):
    def notify(self, event: Event) -> None: ...


class Observers:
    """Passes each event to every listener, even if another one fails."""

    def __init__(self, listeners: Iterable[Observer] = ()) -> None:
        self._listeners = tuple(listeners)

    def notify(self, event: Event) -> None:
        for listener in self._listeners:
            try:
                listener.notify(event)
            except Exception:  # noqa: BLE001  # a listener never breaks a request
                _log.exception("an observer failed", extra={"observer": type(listener).__name__})
