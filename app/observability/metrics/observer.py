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

from app.contract.engine import Phase
from app.contract.telemetry import (
    AttentionChosen,
    CleanedUp,
    Configured,
    DeviceMemory,
    EngineLoad,
    Event,
    FirstToken,
    KeysRead,
    KvTokens,
    LoopLagged,
    MemoryRead,
    PhaseChanged,
    PhaseProgress,
    Preemptions,
    RequestEnded,
    StepDone,
    StepKind,
    TokenGap,
    UpstreamChanged,
    UpstreamState,
    WaitsFor,
)
from app.contract.version import VERSION
from app.observability.metrics.engine_families import (
    EngineFamilies,
    KeysFileFamilies,
    MemoryFamilies,
    UpstreamFamilies,
)
from app.observability.metrics.request_metrics import RequestMetrics
from app.settings import SettingsError


class Metrics:
    """Every family is in `registry`, so that each test has its own. Raises SettingsError: see `_one_process`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        _one_process()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # `_created` would double the number of series for no use
        self._registry = registry
        self._requests = RequestMetrics(registry)
        self._engine = EngineFamilies(registry)
        self._memory = MemoryFamilies(registry)
        self._keys = KeysFileFamilies(registry)
        self._upstreams = UpstreamFamilies(registry)
        self._totals: dict[tuple[str, str], int] = {}
        self._entered = PhaseChanged(Phase.STARTING, "", 0.0)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        Info("serving_build", "Its version, and the libraries that answers depend on.", registry=registry).info(
            {"stack": VERSION, **{name: version(name) for name in ("torch", "transformers")}}
        )
        self._begin_at_zero()

    def render(self, accept: str) -> tuple[bytes, str]:
        """The body and its content type, for an HTTP Accept header. OpenMetrics carries exemplars."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def notify(self, event: Event) -> None:
        match event:
            case TokenGap() | FirstToken() | RequestEnded():
                self._requests.notify(event)
            case StepDone():
                self._step(event)
            case EngineLoad():
                self._load(event)
            case MemoryRead() | CleanedUp():
                self._of_memory(event)
            case PhaseChanged() | PhaseProgress() | Configured():
                self._of_start(event)
            case UpstreamChanged():
                self._upstream(event)
            case LoopLagged():
                self._engine.loop_lag.observe(event.seconds)
            case KeysRead():
                self._keys.outdated.set(event.outdated)
                self._requests.begin_keys(event.names)
            case AttentionChosen():
                self._engine.attention.info({"prefill": event.prefill, "decode": event.decode})

    def _begin_at_zero(self) -> None:
        """A counter whose first sample is 1 hides its first increment from rate()."""
        for kind in ("prefill", "decode"):
            self._engine.step_tokens.labels(kind)
        for kind in get_args(StepKind):  # a first step that never ends is seen by its count that stays 0
            self._engine.step.labels(kind)
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

    def _of_start(self, event: PhaseChanged | PhaseProgress | Configured) -> None:
        match event:
            case PhaseChanged():
                self._phase(event)
            case PhaseProgress():
                self._engine.phase_progress.set(event.share)
            case Configured():
                self._engine.configuration.info(
                    {
                        "model": event.model,
                        "source": event.source,
                        "dtype": event.dtype,
                        "context_tokens": str(event.context_tokens),
                        "sequences": str(event.sequences),
                        "gpus": ", ".join(event.gpus),
                        "driver": event.driver,
                    }
                )

    def _phase(self, event: PhaseChanged) -> None:
        before = self._entered
        if before.phase != event.phase:  # a phase tells each of its parts
            self._entered = event
            if Phase(before.phase).is_startup:
                self._engine.phase_seconds.labels(before.phase).set(event.elapsed - before.elapsed)
        for phase in Phase:
            self._engine.phase.labels(phase).set(phase == event.phase)
        self._engine.phase_progress.set(event.phase == Phase.READY)
        if event.phase == Phase.READY:
            self._engine.startup.set(event.elapsed)

    def _upstream(self, event: UpstreamChanged) -> None:
        name = event.upstream
        self._upstreams.outstanding.labels(name).set(event.outstanding)
        for state in get_args(UpstreamState):
            self._upstreams.state.labels(name, state).set(state == event.state)
        self._upstreams.failures.labels(name).inc(self._since_last("upstream_failures", name, event.failures))

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
        self._memory.freed.labels(name)
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


def _one_process() -> None:
    """The presence of this variable switches prometheus_client to its multiprocess mode, without exemplars and
    Info."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        raise SettingsError("PROMETHEUS_MULTIPROC_DIR is set, but one worker serves the model: unset it.")
