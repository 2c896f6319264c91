"""What is said of a play: waits, speeds, refusals; and whether its users had what was promised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.simulation.play import Record

FIRST_TOKEN, SPEED = 5.0, 15.0
"""The promise: 95 of 100 questions have their first token within so many seconds, and 95 of 100 answers come with so
many tokens per second, about twice as fast as people read code. The longest question takes two RTX 3090 1.7 seconds
when they have nothing else to do."""

_LATEST = 5.0
"""Seconds before the end of the play in which questions are not counted: their first token may come behind it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Times in seconds, speeds in tokens per second; shares from 0 to 1."""

    first_token: float  # the median
    first_token_95: float
    speed: float  # the median
    speed_5: float  # 95 of 100 answers are at least as fast
    tokens: float  # per second, of all answers together
    refused: float  # of the questions, once or more
    cached: float  # of the prompts' tokens

    @property
    def kept(self) -> bool:
        return self.first_token_95 <= FIRST_TOKEN and self.speed_5 >= SPEED


def figures(record: Record) -> Figures:
    questions = [each for each in record.questions if each.asked <= record.span.end - _LATEST]
    waits = [question.wait for question in questions]
    speeds = [answer.speed for answer in record.answers if answer.usage.completion_tokens > 1]
    prompts = sum(answer.usage.prompt_tokens for answer in record.answers)
    return Figures(
        first_token=_at(waits, 0.5),
        first_token_95=_at(waits, 0.95),
        speed=_at(speeds, 0.5),
        speed_5=_at(speeds, 0.05),
        tokens=record.tokens / record.span.counted,
        refused=sum(question.refusals > 0 for question in questions) / max(1, len(questions)),
        cached=sum(answer.usage.cached_tokens for answer in record.answers) / max(1, prompts),
    )


def _at(values: Sequence[float], share: float) -> float:
    """The value that so large a share of them does not exceed; NaN of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, math.ceil(share * len(ranked)))] if ranked else math.nan
