"""Figures computed from one ended request, so that its log line and the histograms have the same numbers."""

from app.contract.events import SUCCESSES
from app.contract.telemetry import RequestEnded


def succeeded(event: RequestEnded) -> bool:
    return event.finished is not None and event.finished.reason in SUCCESSES


def time_per_output_token(event: RequestEnded) -> float | None:
    """Seconds per token after the first, as OpenTelemetry defines it; None when there is at most one.

    None for several choices too: they are generated in parallel, so the time between two tokens is not defined.
    """
    if event.finished is None or event.time_to_first_token is None or event.choices:
        return None
    after_first = event.finished.usage.completion_tokens - 1
    if after_first < 1:
        return None
    return (event.duration - event.time_to_first_token) / after_first


def output_tokens_per_second(event: RequestEnded) -> float | None:
    """Completion tokens by the whole duration, including the wait: the speed that the client sees.

    The `tokens_per_second` of an answer's `timings` is another figure: the speed of decoding alone.
    """
    if event.finished is None or event.finished.usage.completion_tokens == 0 or event.duration <= 0:
        return None
    return event.finished.usage.completion_tokens / event.duration
