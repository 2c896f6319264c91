"""A request on the inference thread, from its arrival to its end."""

from dataclasses import InitVar, dataclass, field

from app.contract.errors import ServingError
from app.contract.events import Finished, FinishReason, TokenEvent, Usage
from app.contract.requests import EngineRequest
from app.engine.grammars.constraint import Constraint
from app.engine.kv.sequence import TokenSequence
from app.engine.sampling.sampler import SamplingState


@dataclass(slots=True, eq=False)
class RunningRequest:
    """A request's scheduling state and its sampling state."""

    request: EngineRequest
    constraint: InitVar[Constraint | None] = None
    sequence: TokenSequence = field(init=False)
    sampling: SamplingState = field(init=False)

    def __post_init__(self, constraint: Constraint | None) -> None:
        request = self.request
        self.sequence = TokenSequence(
            request.id,
            list(request.tokens),
            request.max_tokens,
            request.tenant,
            request.prompt_logprobs,
            request.progress,
        )
        self.sampling = SamplingState(
            request.sampling, request.tokens, stop_tokens=request.stop_tokens, constraint=constraint
        )

    def started(self, now: float) -> None:
        progress = self.request.progress
        if progress.started_at is None:
            progress.started_at = now

    def accept(self, event: TokenEvent, sequences: int) -> FinishReason | None:
        """Append a new token, of a forward pass over so many sequences. The finish reason if it is the last one."""
        self.sequence.tokens.append(event.token)
        self.request.progress.steps += 1
        self.request.progress.neighbours += sequences
        if event.token in self.request.stop_tokens:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.sequence.generated >= self.request.max_tokens else None

    def overdue(self, now: float) -> bool:
        return self.request.deadline_at is not None and now >= self.request.deadline_at

    def finished(self, reason: FinishReason, error: ServingError | None = None) -> Finished:
        usage = Usage(
            prompt_tokens=self.sequence.prompt_length,
            completion_tokens=self.sequence.generated,
            cached_tokens=self.sequence.cached,
        )
        return Finished(reason, usage, error=error)
