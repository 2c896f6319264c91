"""The metric families of what answers: the engine, its memory, the file of keys, the servers of a remote engine.

`families.py` has what holds for their names.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from app.observability.metrics.buckets import (
    CLEANUP_BUCKETS,
    LAG_BUCKETS,
    SEQUENCE_BUCKETS,
    STEP_BUCKETS,
)


class EngineFamilies:
    """Metrics of the engine."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = Gauge("serving_requests_running", "Requests in the engine's batch.", registry=registry)
        self.waiting = Gauge(
            "serving_requests_waiting",
            "Requests that wait in the engine, by what the first of them lacks: a place in the batch, or memory.",
            ("reason",),
            registry=registry,
        )
        self.preemptions = Counter(
            "serving_preemptions",
            "Running requests that gave up their KV memory and were computed again later, by cause: growth of those "
            "that run, or another tenant's share of pages or of places.",
            ("cause",),
            registry=registry,
        )
        self.kv_used = Gauge("serving_kv_cache_used_tokens", "Tokens held by the KV cache.", registry=registry)
        self.kv_capacity = Gauge(
            "serving_kv_cache_capacity_tokens", "Tokens that the KV cache can hold.", registry=registry
        )
        self.kv_tokens = Gauge(
            "serving_kv_cache_tokens",
            "The KV cache's tokens by state: of one running request, shared by several, cached for later, or free.",
            ("state",),
            registry=registry,
        )
        self.kv_evicted = Counter(
            "serving_kv_cache_evicted_pages", "Cached pages that made room for new tokens.", registry=registry
        )
        self.kv_utilization = Gauge(
            "serving_kv_cache_utilization_ratio", "Used by capacity, from 0 to 1.", registry=registry
        )
        self.phase = Gauge(
            "serving_engine_phase", "1 for the phase that the engine is in.", ("phase",), registry=registry
        )
        self.phase_seconds = Gauge(
            "serving_engine_phase_seconds",
            "How long the start stayed in each of its phases, once it left it.",
            ("phase",),
            registry=registry,
        )
        self.phase_progress = Gauge(
            "serving_engine_phase_progress_ratio",
            "How much of its phase is done, from 0 to 1: of loading, the weights that are on their devices.",
            registry=registry,
        )
        self.configuration = Info(
            "serving_configuration",
            "What the engine runs with, from when it is ready: model, source (with its revision), dtype, "
            "context_tokens, sequences, gpus, driver.",
            registry=registry,
        )
        self.loop_lag = Histogram(
            "serving_event_loop_lag_seconds",
            "How much later than it asked for a task of the event loop went on, measured twice a second.",
            registry=registry,
            buckets=LAG_BUCKETS,
        )
        self.startup = Gauge(
            "serving_engine_startup_seconds", "From the start until the engine was ready.", registry=registry
        )
        self.attention = Info(
            "serving_attention", "What computes attention for prompts and for decode steps.", registry=registry
        )
        self.step = Histogram(
            "serving_engine_step_duration_seconds",
            "One forward pass, by kind: prefill, decode, or mixed.",
            ("kind",),
            registry=registry,
            buckets=STEP_BUCKETS,
        )
        self.step_sequences = Histogram(
            "serving_engine_step_sequences",
            "Sequences computed together in one forward pass.",
            ("kind",),
            registry=registry,
            buckets=SEQUENCE_BUCKETS,
        )
        self.step_tokens = Counter(
            "serving_engine_step_tokens",
            "Tokens computed by forward passes, of prompts (prefill) and of answers (decode): counted at once, where "
            "the requests' tokens count at their end.",
            ("kind",),
            registry=registry,
        )


class UpstreamFamilies:
    """Metrics of the servers that a remote engine asks. The setting ENGINE_URL bounds the label's values."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outstanding = Gauge(
            "serving_upstream_outstanding_requests",
            "Requests that a server of ENGINE_URL has from here.",
            ("upstream",),
            registry=registry,
        )
        self.state = Gauge(
            "serving_upstream_state",
            "1 for the state of a server of ENGINE_URL: up, trial (after it was down), or down.",
            ("upstream", "state"),
            registry=registry,
        )
        self.failures = Counter(
            "serving_upstream_failures",
            "Requests that a server of ENGINE_URL did not answer, and questions whether it is well.",
            ("upstream",),
            registry=registry,
        )


class KeysFileFamilies:
    """Metrics of the file of API keys."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outdated = Gauge(
            "serving_api_keys_outdated",
            "1 while the file of API keys cannot be read and the keys of before are in force, else 0.",
            registry=registry,
        )


class MemoryFamilies:
    """The devices' memory, set after each cleanup and every few seconds while requests run. Without a GPU the one
    device is `cpu`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def gauge(what: str, meaning: str) -> Gauge:
            return Gauge(f"serving_device_memory_{what}_bytes", meaning, ("device",), registry=registry)

        def counter(what: str, meaning: str) -> Counter:
            return Counter(f"serving_device_memory_{what}", meaning, ("device",), registry=registry)

        self.allocated = gauge("allocated", "GPU: held by tensors. cpu: the process's resident memory.")
        self.reserved = gauge("reserved", "GPU: held by PyTorch's allocator. cpu: the process's resident memory.")
        self.free = gauge("free", "Free on the device, whoever uses the rest.")
        self.total = gauge("total", "The device's memory.")
        self.peak = gauge("peak", "The most that was allocated between the last two readings.")
        self.alloc_retries = counter("alloc_retries", "Allocations that succeeded only after emptying the cache.")
        self.out_of_memory = counter("out_of_memory", "Allocations that failed.")
        self.before_cleanup = gauge("before_cleanup", "Reserved before the last cleanup.")
        self.after_cleanup = gauge("after_cleanup", "Reserved after the last cleanup.")
        self.freed = counter("freed_bytes", "What cleanups gave back to the driver, or on a CPU to the system.")
        self.cleanup = Histogram(
            "serving_cleanup_duration_seconds",
            "The memory cleanup after an answer, over all devices.",
            registry=registry,
            buckets=CLEANUP_BUCKETS,
        )
