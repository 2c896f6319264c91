"""The observer protocol: events for logs, metrics and traces.

The other packages know only `Observers`; `main.py` wires the listeners. An exception of a listener is logged and
never breaks a request. `notify` may be called from the event loop and from the inference thread, so listeners must be
safe under threads and must not block.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

from app.contract.caller import Caller
from app.contract.errors import ServingError
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
    error: ServingError | None
    duration: float  # seconds from arrival to the last event
    tenant: str | None = None  # where there is no `request`; None: it was refused before its key was known
    caller: Caller | None = None
    request: GenerationRequest | None = None
    model: str | None = None
    response: str = ""
    finished: Finished | None = None
    max_tokens: int | None = None  # as many as it could get, where it asked for none
    time_to_first_token: float | None = None  # seconds from arrival
    largest_gap: float | None = None  # the longest time between two tokens, seconds
    mean_batch: float | None = None  # sequences that its forward passes computed, on average
    preemptions: int = 0  # times that it gave up its KV memory and was computed again
    first_step: int | None = None  # numbers of the first and the last forward pass that computed it
    last_step: int | None = None
    upstream: str | None = None  # with a remote engine: the server that answered
    choices: tuple[Choice, ...] = ()

    @property
    def error_code(self) -> str | None:
        return None if self.error is None else self.error.code


@dataclass(frozen=True, slots=True)
class FirstToken:
    """The first token of a request came, whatever follows."""

    request: GenerationRequest
    caller: Caller | None
    model: str
    seconds: float  # from arrival


@dataclass(frozen=True, slots=True)
class TokenGap:
    """The time from one token of an answer to its next."""

    seconds: float


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
    """Bytes on one device. `peak` is the most that was allocated since they were read before.

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
class MemoryRead:
    """The memory was read without a cleanup: while requests run, and where there are no cleanups."""

    devices: tuple[DeviceMemory, ...]


@dataclass(frozen=True, slots=True)
class CleanedUp:
    """The memory cleanup after an answer has run. Both have the same devices in the same order."""

    before: tuple[DeviceMemory, ...]
    devices: tuple[DeviceMemory, ...]  # after it
    duration: float  # seconds

    def freed(self) -> dict[str, int]:
        """Bytes by device: what its allocator gave back to the driver; negative where it took more meanwhile."""
        pairs = zip(self.before, self.devices, strict=True)
        return {after.device: before.reserved - after.reserved for before, after in pairs}


UpstreamState = Literal["up", "trial", "down"]
"""Whether a server gets requests: as any, as a trial after it was down, or not at all."""

StepKind = Literal["prefill", "decode", "mixed"]


@dataclass(frozen=True, slots=True)
class StepDone:
    """One forward pass of the engine."""

    sequences: int
    prefill_tokens: int  # of prompts
    decode_tokens: int  # the last ones of answers: one for each that decodes
    duration: float  # seconds

    @property
    def tokens(self) -> int:
        return self.prefill_tokens + self.decode_tokens

    @property
    def kind(self) -> StepKind:
        if self.prefill_tokens:
            return "mixed" if self.decode_tokens else "prefill"
        return "decode"


@dataclass(frozen=True, slots=True)
class PhaseChanged:
    """The engine entered another `Phase`."""

    phase: str
    detail: str
    elapsed: float  # seconds since the start


@dataclass(frozen=True, slots=True)
class PhaseProgress:
    """How much of the engine's phase is done, from 0 to 1."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What the engine that became ready runs with. Empty: there is none, or it is not known."""

    model: str
    source: str  # where its files came from, with their revision
    dtype: str
    context_tokens: int
    sequences: int
    gpus: tuple[str, ...]
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionChosen:
    """The names of the attention kernels of the model that became ready."""

    prefill: str
    decode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamChanged:
    """What is known of one of the servers that a remote engine asks. Sent whenever it changes."""

    upstream: str
    state: UpstreamState
    outstanding: int  # requests that it has from here
    failures: int  # since the start: of requests and of questions whether it is well


@dataclass(frozen=True, slots=True)
class LoopLagged:
    """How much later than it asked for a task of the event loop went on."""

    seconds: float


@dataclass(frozen=True, slots=True)
class KeysRead:
    """The file of API keys was read, or could not be. Then the keys in force are older than the file."""

    outdated: bool
    names: tuple[str, ...] = ()  # of the keys that were read


Event = (
    RequestEnded
    | FirstToken
    | TokenGap
    | EngineLoad
    | MemoryRead
    | CleanedUp
    | StepDone
    | PhaseChanged
    | PhaseProgress
    | Configured
    | AttentionChosen
    | UpstreamChanged
    | LoopLagged
    | KeysRead
)


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
