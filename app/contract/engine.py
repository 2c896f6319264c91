"""The protocol of engines."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.contract.events import EngineEvent
from app.contract.requests import EngineRequest


class Phase(StrEnum):
    """The phases of an engine, in this order; FAILED and STOPPED are final."""

    STARTING = "starting"  # no weights are loaded
    LOADING = "loading"  # weights are copied to their devices
    WARMING = "warming"  # packing, warm-up, self-check
    READY = "ready"
    DRAINING = "draining"  # running requests finish, new ones are refused
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_startup(self) -> bool:
        """Before the engine was ready for the first time."""
        return self in (Phase.STARTING, Phase.LOADING, Phase.WARMING)


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The content of the probes. `progress` goes from 0 to 1 within the phase. `alive` becomes false, and stays so,
    when the engine has work and makes no progress."""

    phase: Phase
    progress: float
    detail: str
    elapsed: float  # seconds since the start
    alive: bool = True
    reachable: bool = True  # false while no server that a remote engine asks can be reached


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The served model. Known before its weights are loaded."""

    name: str
    context_tokens: int  # prompt and answer together
    stop_tokens: frozenset[int]
    vocabulary: int
    defaults: "SamplingDefaults | None"  # None: not known here, where the engine is remote
    other_names: tuple[str, ...] = ()  # SERVED_NAMES

    def known_as(self, wanted: str) -> str | None:
        """The name of the model that a client means; None if it means another model.

        Letter case does not count, nor does a provider's prefix: in `openai/NAME` and `hosted_vllm/org/NAME` programs
        tell themselves which API to speak.
        """
        meant = f"/{wanted.casefold()}"
        return next((name for name in (self.name, *self.other_names) if meant.endswith(f"/{name.casefold()}")), None)


@dataclass(frozen=True, slots=True)
class SamplingDefaults:
    """The model's own generation config: the values of fields that a request leaves out."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the engine can hold at once. Admission reserves from it. Known when the engine is ready."""

    sequences: int
    kv_tokens: int


class Runs(Protocol):
    """What starts and stops with the process. Every method is called on the event loop, and none blocks it."""

    def status(self) -> EngineStatus: ...

    async def start(self) -> None:
        """Begin loading in the background and return."""

    async def drain(self) -> None:
        """Refuse new requests; return when no request runs any more."""

    async def stop(self) -> None:
        """End running requests with Interrupted, free all memory, and return when the engine's thread has ended."""


class Engine(Runs, Protocol):
    """Owns a model."""

    @property
    def model(self) -> ModelInfo: ...

    @property
    def capacity(self) -> Capacity: ...

    async def open(self, request: EngineRequest) -> AsyncGenerator[EngineEvent, None]:
        """The request's events as they come; the last one is a Finished, PromptEvents are the first ones.

        Raises NotReady when the engine takes no requests, and InvalidRequest for a grammar that it cannot enforce.
        All other errors are in `Finished.error`. The request begins at the first `anext`, also during a drain that
        began since; it raises NotReady when the engine has stopped or is lost. Closing the events, or cancelling the
        task that waits for one, cancels the request and frees its slot within one step.
        """
        ...
