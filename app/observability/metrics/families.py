"""The metric families of requests, and of what each API key used: names, labels, meanings.

The `gen_ai_server_…` histograms are OpenTelemetry's GenAI conventions in Prometheus form; the rest carries the prefix
`serving_`. Base units, `_total` on counters, ratios from 0 to 1, and few values in every label: never a prompt, a
secret, a path or a request id.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from app.observability.metrics.buckets import (
    DURATION_BUCKETS,
    FIRST_TOKEN_BUCKETS,
    GAP_BUCKETS,
    PER_TOKEN_BUCKETS,
    SPEED_BUCKETS,
    TOKEN_BUCKETS,
    USED_BUCKETS,
)


class RequestFamilies:
    """Metrics of requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        served = ("gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model")
        self.duration = Histogram(
            "gen_ai_server_request_duration_seconds",
            "From a request's arrival to its last event; error_type is empty for a success. Those that were "
            "refused before their body was read are not in it.",
            (*served, "error_type"),
            registry=registry,
            buckets=DURATION_BUCKETS,
        )
        self.first_token = Histogram(
            "gen_ai_server_time_to_first_token_seconds",
            "From a request's arrival to its first token, observed when that comes, whatever follows.",
            served,
            registry=registry,
            buckets=FIRST_TOKEN_BUCKETS,
        )
        self.per_token = Histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between two tokens after the first, per request; successes only.",
            served,
            registry=registry,
            buckets=PER_TOKEN_BUCKETS,
        )
        self.speed = Histogram(
            "serving_request_output_tokens_per_second",
            "A request's completion tokens by its whole duration; successes only.",
            registry=registry,
            buckets=SPEED_BUCKETS,
        )
        self.requests = Counter(
            "serving_requests",
            "Requests that ended: how (stop, length, tool_calls, cancelled, error, refused), and their HTTP status.",
            ("outcome", "status"),
            registry=registry,
        )
        self.refusals = Counter(
            "serving_refusals",
            "Requests that were refused before the engine had them, by error code and by what was lacking (empty for "
            "most codes).",
            ("code", "reason"),
            registry=registry,
        )
        self.cut = Counter(
            "serving_answers_cut",
            "Answers that something other than their limit ended early, by its code. Their clients got what there "
            "was: they count as answered.",
            ("code",),
            registry=registry,
        )
        self.stage = Histogram(
            "serving_request_stage_seconds",
            "Time in each stage that a request reached (prepare, grammar, queue, prefill or upstream, decode; from "
            "its arrival to its end together), by its outcome (answered, cancelled, error, refused).",
            ("stage", "outcome"),
            registry=registry,
            buckets=FIRST_TOKEN_BUCKETS,
        )
        self.upstream_first_token = Histogram(
            "serving_upstream_first_token_seconds",
            "With a remote engine: from the end of the queue until a server of ENGINE_URL had sent the first token.",
            ("upstream",),
            registry=registry,
            buckets=FIRST_TOKEN_BUCKETS,
        )
        self.used = Histogram(
            "serving_request_max_tokens_used_ratio",
            "New tokens of an answer by what its max_tokens came to, for answers that asked for a max_tokens.",
            registry=registry,
            buckets=USED_BUCKETS,
        )
        self.between_tokens = Histogram(
            "serving_time_between_tokens_seconds",
            "From each token of an answer to its next.",
            registry=registry,
            buckets=GAP_BUCKETS,
        )
        self.prompt_length = Histogram(
            "serving_request_prompt_tokens", "Prompt tokens per request.", registry=registry, buckets=TOKEN_BUCKETS
        )
        self.answer_length = Histogram(
            "serving_request_completion_tokens",
            "Completion tokens per request.",
            registry=registry,
            buckets=TOKEN_BUCKETS,
        )
        self.prompt_tokens = Counter("serving_prompt_tokens", "Prompt tokens of ended requests.", registry=registry)
        self.cached_tokens = Counter(
            "serving_cached_prompt_tokens",
            "Of the prompt tokens, those that a cached prefix made unnecessary to compute.",
            registry=registry,
        )
        self.completion_tokens = Counter(
            "serving_completion_tokens", "Generated tokens of ended requests.", registry=registry
        )
        self.wasted_tokens = Counter(
            "serving_wasted_completion_tokens",
            "Of the generated tokens, those of answers that nobody got whole, by cause.",
            ("cause",),
            registry=registry,
        )


class KeyUseFamilies:
    """What each API key used. The keys' file bounds the label's values; without one there is `anonymous` alone."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "serving_key_requests",
            "Requests of an API key that ended, by outcome (answered, cancelled, error, refused).",
            ("key", "outcome"),
            registry=registry,
        )
        self.tokens = Counter(
            "serving_key_tokens",
            "Tokens of ended requests of an API key: of prompts, and generated ones.",
            ("key", "kind"),
            registry=registry,
        )
