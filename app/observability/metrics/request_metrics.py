"""What is counted of requests: how they ended, how long they took, what they used, and by which key."""

from collections.abc import Iterable
from typing import get_args

from prometheus_client import CollectorRegistry

from app.contract.caller import Caller
from app.contract.errors import DeadlineExceeded, GrammarExhausted, every_error
from app.contract.events import SUCCESSES, FinishReason, Usage
from app.contract.requests import ANONYMOUS, GenerationRequest
from app.contract.telemetry import FirstToken, RequestEnded, TokenGap
from app.observability.derived import (
    PROVIDER,
    Outcome,
    outcome_of,
    output_tokens_per_second,
    stages,
    succeeded,
    time_per_output_token,
)
from app.observability.metrics.families import KeyUseFamilies, RequestFamilies

REFUSED = "refused"
"""The outcome of a request that never reached the engine; the other outcomes are the finish reasons."""
_EXEMPLAR_LIMIT = 128  # characters of names and values together, by OpenMetrics


class RequestMetrics:
    """Its families are in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families = RequestFamilies(registry)
        self._use = KeyUseFamilies(registry)
        self._begin_at_zero()

    def notify(self, event: TokenGap | FirstToken | RequestEnded) -> None:
        match event:
            case TokenGap():
                self._families.between_tokens.observe(event.seconds)
            case FirstToken():
                self._first_token(event)
            case RequestEnded(request=None):
                self._families.requests.labels(REFUSED, str(event.status)).inc()
                self._refused(event)
                if event.tenant is not None:
                    self._use.requests.labels(event.tenant, outcome_of(event)).inc()
            case RequestEnded(request=GenerationRequest() as request):
                self._of_key(event, request)
                self._ended(event, (request.operation, PROVIDER, event.model or ""))

    def _of_key(self, event: RequestEnded, request: GenerationRequest) -> None:
        self._use.requests.labels(request.tenant, outcome_of(event)).inc()
        if event.finished is None:
            return
        usage = event.finished.usage
        self._use.tokens.labels(request.tenant, "prompt").inc(usage.prompt_tokens)
        self._use.tokens.labels(request.tenant, "completion").inc(usage.completion_tokens)
        if request.max_tokens and event.max_tokens and not event.choices and succeeded(event):
            self._families.used.observe(usage.completion_tokens / event.max_tokens)

    def _ended(self, event: RequestEnded, served: tuple[str, str, str]) -> None:
        """`served` are label values: the operation, the provider and the model."""
        for stage, seconds in stages(event).items():
            self._families.stage.labels(stage, outcome_of(event)).observe(seconds)
        outcome = REFUSED if event.finished is None else event.finished.reason
        self._families.requests.labels(outcome, str(event.status)).inc()
        error = "" if succeeded(event) else event.error_code or outcome
        self._families.duration.labels(*served, error).observe(event.duration, _exemplar(event.id, event.caller))
        if event.finished is None:
            self._refused(event)
            return
        if event.upstream is not None and event.time_to_first_token is not None:
            self._families.upstream_first_token.labels(event.upstream).observe(event.finished.timings.upstream)
        self._usage(event.finished.usage)
        if succeeded(event):
            self._success(event, served)
        else:
            self._families.wasted_tokens.labels(outcome).inc(event.finished.usage.completion_tokens)

    def _usage(self, usage: Usage) -> None:
        self._families.prompt_tokens.inc(usage.prompt_tokens)
        self._families.cached_tokens.inc(usage.cached_tokens)
        self._families.completion_tokens.inc(usage.completion_tokens)
        self._families.prompt_length.observe(usage.prompt_tokens)
        self._families.answer_length.observe(usage.completion_tokens)

    def _first_token(self, event: FirstToken) -> None:
        request = event.request
        family = self._families.first_token.labels(request.operation, PROVIDER, event.model)
        family.observe(event.seconds, _exemplar(request.id, event.caller))

    def _refused(self, event: RequestEnded) -> None:
        if event.error is not None:
            self._families.refusals.labels(event.error.code, event.error.reason).inc()

    def _success(self, event: RequestEnded, served: tuple[str, str, str]) -> None:
        if event.error is not None:
            self._families.cut.labels(event.error.code).inc()
        per_token = time_per_output_token(event)
        if per_token is not None:
            self._families.per_token.labels(*served).observe(per_token, _exemplar(event.id, event.caller))
        speed = output_tokens_per_second(event)
        if speed is not None:
            self._families.speed.observe(speed)

    def begin_keys(self, names: Iterable[str]) -> None:
        """Counters of keys that have not asked yet are 0."""
        for name in names:
            for outcome in get_args(Outcome):
                self._use.requests.labels(name, outcome)

    def _begin_at_zero(self) -> None:
        """A counter whose first sample is 1 hides its first increment from rate()."""
        for reason in SUCCESSES:
            self._families.requests.labels(reason, "200")
        for status in ("499", "503"):  # the client disconnected, or the server stopped
            self._families.requests.labels(FinishReason.CANCELLED, status)
        for error in every_error():
            self._families.requests.labels(REFUSED, str(error.status))
            for lacking in ("", *error.reasons):
                self._families.refusals.labels(error.code, lacking)
            if error.status >= 500:
                self._families.requests.labels(FinishReason.ERROR, str(error.status))
        self.begin_keys([ANONYMOUS])
        for cut in (DeadlineExceeded, GrammarExhausted):
            self._families.cut.labels(cut.code)
        for end in (FinishReason.CANCELLED, FinishReason.ERROR):
            self._families.wasted_tokens.labels(end)


def _exemplar(request_id: str, caller: Caller | None) -> dict[str, str] | None:
    """What leads from a slow bucket to a log line and to a trace."""
    ids = {"request_id": request_id}
    if caller is not None and caller.trace_id is not None:
        ids["trace_id"] = caller.trace_id
    return ids if sum(len(name) + len(value) for name, value in ids.items()) <= _EXEMPLAR_LIMIT else None
