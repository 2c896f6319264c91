"""Figures computed from one ended request, so that its log line and the histograms have the same numbers."""

from dataclasses import asdict
from typing import Literal

from app.contract.errors import ClientClosed
from app.contract.events import SUCCESSES, FinishReason
from app.contract.telemetry import RequestEnded

PROVIDER = "two-gpu-serving"
"""`gen_ai.provider.name` and the service's name: no name of the conventions fits a server of one's own."""

Outcome = Literal["answered", "cancelled", "error", "refused"]


def outcome_of(event: RequestEnded) -> Outcome:
    """`refused` is what never reached the engine, but for clients that left before."""
    if isinstance(event.error, ClientClosed):
        return "cancelled"
    if event.finished is None:
        return "refused"
    if event.finished.reason in SUCCESSES:
        return "answered"
    return "cancelled" if event.finished.reason is FinishReason.CANCELLED else "error"


def stages(event: RequestEnded) -> dict[str, float]:
    """Seconds by stage, for the stages that were reached, in their order. Their sum is the duration."""
    if event.finished is None:
        return {"prepare": event.duration}
    return {stage: seconds for stage, seconds in asdict(event.finished.timings).items() if seconds > 0}


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
