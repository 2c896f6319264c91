"""KV memory in use against the tokens that need it, from what an engine worker told of one question."""

from collections.abc import Mapping, Sequence
from typing import Any

from bench.errors import Failed


def most_beside(told: Mapping[str, Any], prompts: Sequence[int]) -> int:
    """The most KV tokens in use beside those that are needed, while every sequence had its first token and none its
    last.

    `prompts` are the tokens that each prompt needs. A token that was generated in the very step counts as not needed.
    Raises Failed when the sequences did not run at the same time.
    """
    came: list[list[float]] = told["came"]
    begun, ended = max(times[0] for times in came), min(times[-1] for times in came)
    beside: list[int] = [
        used - sum(prompts) - sum(when < told_at for times in came for when in times)
        for told_at, running, used, _ in told["loads"]
        if begun <= told_at < ended and running == len(came)
    ]
    if not beside:
        raise Failed("the sequences did not run at the same time")
    return max(beside)


def peak_beside(told: Mapping[str, Any], prompts: Sequence[int]) -> int:
    """The same from the first load that was told until the first sequence ended, also while prompts are computed."""
    came: list[list[float]] = told["came"]
    ended = min(times[-1] for times in came)
    beside: list[int] = [
        used - sum(prompts) - sum(when < told_at for times in came for when in times)
        for told_at, _, used, _ in told["loads"]
        if told_at < ended
    ]
    return max(beside)
