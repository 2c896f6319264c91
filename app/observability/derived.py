"""Figures that follow from one finished request: the same number in its log line and in the histograms."""

from app.contract.messages import SUCCESSES
from app.contract.telemetry import RequestEnded


def succeeded(event: RequestEnded) -> bool:
    return event.finished is not None and event.finished.reason in SUCCESSES


def time_per_output_token(event: RequestEnded) -> float | None:
    """Seconds per token after the first, as OpenTelemetry defines it; None when there is at most one.

    None for several choices too: their tokens come side by side, and the time between two of them says nothing.
    """
    if event.finished is None or event.time_to_first_token is None or event.choices:
        return None
    after_first = event.finished.usage.completion_tokens - 1
    if after_first < 1:
        return None
    return (event.duration - event.time_to_first_token) / after_first


def tokens_per_second(event: RequestEnded) -> float | None:
    """Completion tokens by the whole duration, waiting included: what the client saw."""
    if event.finished is None or event.finished.usage.completion_tokens == 0 or event.duration <= 0:
        return None
    return event.finished.usage.completion_tokens / event.duration
