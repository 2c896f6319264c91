"""The outcomes of requests, and the figures that follow from them."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request as its client saw it. Times are seconds of the monotonic clock."""

    begun: float
    ended: float
    pieces: tuple[float, ...] = ()  # when each piece of text came; an answer that is not streamed is one piece
    text: str = ""
    tokens: int | None = None  # generated, by the server's own count; None: it did not say
    request_id: str | None = None
    error: str | None = None  # its text and tokens are then ignored

    def counted(self, tokens: int) -> "Outcome":
        return replace(self, tokens=tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Seconds, and generated tokens. A figure without data is None."""

    clients: int
    answers: int
    errors: int
    tokens: int
    seconds: float  # from the first request's start to the last answer's end
    first_token: float | None  # median
    first_token_95: float | None
    gap: float | None  # median time between two pieces of text of one answer
    gap_95: float | None
    gap_worst: float | None
    answer: float | None  # median time of a whole answer

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0


def figures(outcomes: Sequence[Outcome], clients: int) -> Figures:
    """Raises ValueError for an answer without a token count: a guess would look like a measurement."""
    answers = [outcome for outcome in outcomes if outcome.error is None]
    if any(outcome.tokens is None for outcome in answers):
        raise ValueError("the server did not say how many tokens it generated")
    firsts = [outcome.pieces[0] - outcome.begun for outcome in answers if outcome.pieces]
    gaps = [after - before for outcome in answers for before, after in pairwise(outcome.pieces)]
    return Figures(
        clients=clients,
        answers=len(answers),
        errors=len(outcomes) - len(answers),
        tokens=sum(outcome.tokens or 0 for outcome in answers),
        seconds=max(o.ended for o in outcomes) - min(o.begun for o in outcomes) if outcomes else 0.0,
        first_token=percentile(firsts, 50),
        first_token_95=percentile(firsts, 95),
        gap=percentile(gaps, 50),
        gap_95=percentile(gaps, 95),
        gap_worst=max(gaps, default=None),
        answer=percentile([outcome.ended - outcome.begun for outcome in answers], 50),
    )


def most_at_once(outcomes: Sequence[Outcome]) -> int:
    """The most answers that were under way at the same time, from their first piece to their end."""
    changes = [change for o in outcomes if o.pieces for change in ((o.pieces[0], 1), (o.ended, -1))]
    return max(itertools.accumulate(step for _, step in sorted(changes)), default=0)


def percentile(values: Sequence[float], percent: int) -> float | None:
    """Between the two nearest values; None for no values."""
    if len(values) < 2:
        return values[0] if values else None
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
