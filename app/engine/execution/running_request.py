"""A request on the inference thread, from its arrival to its end."""

import time
from dataclasses import InitVar, dataclass, field, replace

from app.contract.errors import ServingError
from app.contract.events import Finished, FinishReason, Start, Timings, TokenEvent, Usage
from app.contract.requests import EngineRequest
from app.engine.grammars.constraint import Constraint
from app.engine.kv.sequence import TokenSequence
from app.engine.sampling.sampler import SamplingState


@dataclass(slots=True, eq=False)
class RunningRequest:
    """A request's scheduling state, its sampling state, and its times (monotonic)."""

    request: EngineRequest
    arrived_at: float
    constraint: InitVar[Constraint | None] = None
    sequence: TokenSequence = field(init=False)
    sampling: SamplingState = field(init=False)
    started_at: float | None = None
    first_token_at: float | None = None
    last_token_at: float | None = None

    def __post_init__(self, constraint: Constraint | None) -> None:
        request = self.request
        self.sequence = TokenSequence(
            request.id, list(request.tokens), request.max_tokens, request.tenant, request.prompt_logprobs
        )
        self.sampling = SamplingState(
            request.sampling, request.tokens, stop_tokens=request.stop_tokens, constraint=constraint
        )

    def started(self, now: float) -> None:
        if self.started_at is None:
            self.started_at = now

    def accept(self, event: TokenEvent, now: float) -> FinishReason | None:
        """Append a new token. Returns the finish reason if it is the last one."""
        self.sequence.tokens.append(event.token)
        self.last_token_at = now
        if self.first_token_at is None:
            self.first_token_at = now
        if event.token in self.request.stop_tokens:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.sequence.generated >= self.request.max_tokens else None

    def with_start(self, event: TokenEvent) -> TokenEvent:
        """The event of the token that was accepted last. The first token's event gets the request's start."""
        if self.sequence.generated > 1 or self.started_at is None:
            return event
        return replace(event, start=Start(self.started_at - self.arrived_at, self.sequence.cached))

    def overdue(self, now: float) -> bool:
        return self.request.deadline_at is not None and now >= self.request.deadline_at

    def finished(self, reason: FinishReason, error: ServingError | None = None) -> Finished:
        usage = Usage(
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=self.sequence.generated,
            cached_tokens=self.sequence.cached,
        )
        return Finished(reason, usage, self._timings(), error, self.sequence.preemptions)

    def _timings(self) -> Timings:
        if self.started_at is None:
            return Timings(queued=time.monotonic() - self.arrived_at)
        queued = self.started_at - self.arrived_at
        if self.first_token_at is None or self.last_token_at is None:
            return Timings(queued=queued, prefill=time.monotonic() - self.started_at)
        return Timings(
            queued=queued,
            prefill=self.first_token_at - self.started_at,
            decode=self.last_token_at - self.first_token_at,
        )
