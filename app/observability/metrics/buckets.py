"""The bounds of every histogram."""

# Each ends at or above what the settings allow (tests/unit/observability/test_buckets.py derives it): Prometheus
# tells a quantile above the last bound as that bound. Up to the settings' defaults they are fine, beyond them coarse.
_BEYOND_A_TIMEOUT = (3_600.0, 14_400.0, 86_400.0)
# OpenTelemetry's advice for gen_ai.server.request.duration, up to 81.92.
DURATION_BUCKETS = (
    *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    *(163.84, 327.68, 655.36),
    *_BEYOND_A_TIMEOUT,
)
# OpenTelemetry's advice, up to 10; vLLM's five above it and 320, for a first token that waited in a queue.
FIRST_TOKEN_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
    *(20.0, 40.0, 80.0, 160.0, 320.0, 640.0),
    *_BEYOND_A_TIMEOUT,
)
# OpenTelemetry's advice, up to 2.5; a step may last as long as the stall deadline.
PER_TOKEN_BUCKETS = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5),
    *(5.0, 10.0, 30.0, 120.0, 600.0, 3_600.0),
)
USED_BUCKETS = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.999, 1.0)
LAG_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GAP_BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0, 8.0)
SPEED_BUCKETS = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0)
# The powers of 4 are those of gen_ai.client.token.usage; the rest makes long contexts tell apart.
TOKEN_BUCKETS = (
    *(1.0, 4.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0, 32_768.0, 65_536.0),
    *(98_304.0, 131_072.0, 163_840.0, 262_144.0, 1_048_576.0),
)
STEP_BUCKETS = (
    *(0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5),
    *(5.0, 10.0, 30.0, 60.0, 120.0, 600.0, 3_600.0),
)
SEQUENCE_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
CLEANUP_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
