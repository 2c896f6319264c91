"""The metrics observer: counts events, and renders them for Prometheus."""

import os
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import get_args

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import choose_encoder

from app.contract.caller import Caller
from app.contract.engine import Phase
from app.contract.errors import every_error
from app.contract.events import SUCCESSES, FinishReason, Usage
from app.contract.requests import GenerationRequest
from app.contract.telemetry import (
    AttentionChosen,
    CleanedUp,
    DeviceMemory,
    EngineLoad,
    Event,
    FirstToken,
    KeysRead,
    KvTokens,
    LoopLagged,
    MemoryRead,
    PhaseChanged,
    Preemptions,
    RequestEnded,
    StepDone,
    TokenGap,
    WaitsFor,
)
from app.observability.derived import (
    outcome_of,
    output_tokens_per_second,
    stages,
    succeeded,
    time_per_output_token,
)
from app.observability.families import (
    EngineFamilies,
    KeyFamilies,
    KeysFamilies,
    MemoryFamilies,
    RequestFamilies,
)
from app.settings import SettingsError

REFUSED = "refused"
"""The outcome of a request that never reached the engine; the other outcomes are the finish reasons."""
_EXEMPLAR_LIMIT = 128  # characters of names and values together, by OpenMetrics


class Metrics:
    """Every family is in `registry`, so that each test has its own. Raises SettingsError: see `_one_process`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        _one_process()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` would double the number of series for no use
        self._registry = registry
        self._requests = RequestFamilies(registry)
        self._engine = EngineFamilies(registry)
        self._memory = MemoryFamilies(registry)
        self._keys = KeysFamilies(registry)
        self._used = KeyFamilies(registry)
        self._totals: dict[tuple[str, str], int] = {}
        self._entered = PhaseChanged(Phase.STARTING, "", 0.0)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("serving_build", "The libraries that answers depend on.", registry=registry).info(
            {name: version(name) for name in ("torch", "transformers")}
        )
        self._begin_at_zero()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type, for an HTTP Accept header. OpenMetrics carries exemplars."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def notify(self, event: Event) -> None:
        match event:
            case TokenGap() | FirstToken() | RequestEnded():
                self._of_request(event)
            case StepDone():
                self._step(event)
            case EngineLoad():
                self._load(event)
            case MemoryRead() | CleanedUp():
                self._of_memory(event)
            case PhaseChanged():
                self._phase(event)
            case LoopLagged():
                self._engine.loop_lag.observe(event.seconds)
            case KeysRead():
                self._keys.outdated.set(event.outdated)
            case AttentionChosen():
                self._engine.attention.info({"prefill": event.prefill, "decode": event.decode})

    def _of_request(self, event: TokenGap | FirstToken | RequestEnded) -> None:
        match event:
            case TokenGap():
                self._requests.between_tokens.observe(event.seconds)
            case FirstToken():
                self._first_token(event)
            case RequestEnded(request=None):
                self._requests.requests.labels(REFUSED, str(event.status)).inc()
                self._refused(event)
            case RequestEnded(request=GenerationRequest() as request):
                self._of_key(event, request)
                self._ended(event, (request.operation, event.model or ""))

    def _of_key(self, event: RequestEnded, request: GenerationRequest) -> None:
        self._used.requests.labels(request.tenant, outcome_of(event)).inc()
        if event.finished is None:
            return
        usage = event.finished.usage
        self._used.tokens.labels(request.tenant, "prompt").inc(usage.prompt_tokens)
        self._used.tokens.labels(request.tenant, "completion").inc(usage.completion_tokens)
        if request.max_tokens and event.max_tokens and not event.choices and succeeded(event):
            self._requests.used.observe(usage.completion_tokens / event.max_tokens)

    def _begin_at_zero(self) -> None:
        """A counter whose first sample is 1 hides its first increment from rate()."""
        errors = list(every_error())
        for reason in SUCCESSES:
            self._requests.requests.labels(reason, "200")
        for status in ("499", "503"):  # the client disconnected, or the server stopped
            self._requests.requests.labels(FinishReason.CANCELLED, status)
        for error in errors:
            self._requests.requests.labels(REFUSED, str(error.status))
            self._requests.refusals.labels(error.code, "")
            if error.status >= 500:
                self._requests.requests.labels(FinishReason.ERROR, str(error.status))
        for reason in (FinishReason.CANCELLED, FinishReason.ERROR):
            self._requests.wasted_tokens.labels(reason)
        for kind in ("prefill", "decode"):
            self._engine.step_tokens.labels(kind)
        for reason in get_args(WaitsFor):
            self._engine.waiting.labels(reason)
        for cause in fields(Preemptions):
            self._engine.preemptions.labels(cause.name)
        self._phase(self._entered)

    def _step(self, event: StepDone) -> None:
        self._engine.step.labels(event.kind).observe(event.duration)
        self._engine.step_sequences.labels(event.kind).observe(event.sequences)
        self._engine.step_tokens.labels("prefill").inc(event.prefill_tokens)
        self._engine.step_tokens.labels("decode").inc(event.decode_tokens)

    def _load(self, event: EngineLoad) -> None:
        self._engine.running.set(event.running)
        for reason in get_args(WaitsFor):
            self._engine.waiting.labels(reason).set(event.waiting if reason == event.waits_for else 0)
        for cause, count in asdict(event.preemptions).items():
            self._engine.preemptions.labels(cause).inc(self._since_last("preemptions", cause, count))
        self._kv(event.kv)
        self._engine.kv_evicted.inc(self._since_last("evicted_pages", "", event.evicted_pages))

    def _kv(self, tokens: KvTokens) -> None:
        for state, count in asdict(tokens).items():
            self._engine.kv_tokens.labels(state).set(count)
        self._engine.kv_used.set(tokens.used)
        self._engine.kv_capacity.set(tokens.total)
        if tokens.total > 0:
            self._engine.kv_utilization.set(tokens.used / tokens.total)

    def _phase(self, event: PhaseChanged) -> None:
        before, self._entered = self._entered, event
        if before.phase != event.phase and Phase(before.phase).is_startup:
            self._engine.phase_seconds.labels(before.phase).set(event.elapsed - before.elapsed)
        for phase in Phase:
            self._engine.phase.labels(phase).set(phase == event.phase)
        if event.phase == Phase.READY:
            self._engine.startup.set(event.elapsed)

    def _ended(self, event: RequestEnded, served: tuple[str, str]) -> None:
        """`served` are two label values: the operation and the model."""
        for stage, seconds in stages(event).items():
            self._requests.stage.labels(stage, outcome_of(event)).observe(seconds)
        outcome = REFUSED if event.finished is None else event.finished.reason
        self._requests.requests.labels(outcome, str(event.status)).inc()
        error = event.error_code or ("" if succeeded(event) else outcome)
        self._requests.duration.labels(*served, error).observe(event.duration, _exemplar(event.id, event.caller))
        if event.finished is None:
            self._refused(event)
            return
        self._usage(event.finished.usage)
        if succeeded(event):
            self._success(event, served)
        else:
            self._requests.wasted_tokens.labels(outcome).inc(event.finished.usage.completion_tokens)

    def _usage(self, usage: Usage) -> None:
        self._requests.prompt_tokens.inc(usage.prompt_tokens)
        self._requests.cached_tokens.inc(usage.cached_tokens)
        self._requests.completion_tokens.inc(usage.completion_tokens)
        self._requests.prompt_length.observe(usage.prompt_tokens)
        self._requests.answer_length.observe(usage.completion_tokens)

    def _first_token(self, event: FirstToken) -> None:
        request = event.request
        family = self._requests.first_token.labels(request.operation, event.model)
        family.observe(event.seconds, _exemplar(request.id, event.caller))

    def _refused(self, event: RequestEnded) -> None:
        if event.error is not None:
            self._requests.refusals.labels(event.error.code, event.error.reason).inc()

    def _success(self, event: RequestEnded, served: tuple[str, str]) -> None:
        per_token = time_per_output_token(event)
        if per_token is not None:
            self._requests.per_token.labels(*served).observe(per_token, _exemplar(event.id, event.caller))
        speed = output_tokens_per_second(event)
        if speed is not None:
            self._requests.speed.observe(speed)

    def _of_memory(self, event: MemoryRead | CleanedUp) -> None:
        for memory in event.devices:
            self._device(memory)
        if isinstance(event, MemoryRead):
            return
        self._memory.cleanup.observe(event.duration)
        for before, after in zip(event.before, event.devices, strict=True):
            self._memory.before_cleanup.labels(after.device).set(before.reserved)
            self._memory.after_cleanup.labels(after.device).set(after.reserved)
        for device, freed in event.freed().items():
            self._memory.freed.labels(device).inc(max(0, freed))

    def _device(self, device: DeviceMemory) -> None:
        name = device.device
        self._memory.allocated.labels(name).set(device.allocated)
        self._memory.reserved.labels(name).set(device.reserved)
        self._memory.free.labels(name).set(device.free)
        self._memory.total.labels(name).set(device.total)
        self._memory.peak.labels(name).set(device.peak)
        self._memory.alloc_retries.labels(name).inc(self._since_last("alloc_retries", name, device.alloc_retries))
        self._memory.out_of_memory.labels(name).inc(self._since_last("out_of_memory", name, device.out_of_memory))

    def _since_last(self, what: str, device: str, total: int) -> int:
        """What is counted from the start of the process, as an increment. A smaller count means that it was reset."""
        before = self._totals.get((what, device), 0)
        self._totals[what, device] = total
        return total - before if total >= before else total


def _exemplar(request_id: str, caller: Caller | None) -> dict[str, str] | None:
    """What leads from a slow bucket to a log line and to a trace."""
    ids = {"request_id": request_id}
    if caller is not None and caller.trace_id is not None:
        ids["trace_id"] = caller.trace_id
    return ids if sum(len(name) + len(value) for name, value in ids.items()) <= _EXEMPLAR_LIMIT else None


def _one_process() -> None:
    """The presence of this variable switches prometheus_client to its multiprocess mode, without exemplars and
    Info."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        raise SettingsError("PROMETHEUS_MULTIPROC_DIR is set, but one worker serves the model: unset it.")
