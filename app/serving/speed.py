"""How fast answers come and how long they are, measured lately: what expected waits are computed from."""

from bisect import bisect_right
from collections import deque

_ASSUMED_ANSWER = 512  # tokens, before an answer was measured
_ASSUMED_GAP = 1 / 20  # seconds between two tokens, before there were two: one user of the script that this replaces
_ASSUMED_PREFILL = 1 / 1000  # seconds per prompt token, before a prompt was computed

_ANSWERS = 64  # the last answers, whose lengths and prompts count
_GAPS = 256  # tokens over which the mean gap is taken


class AnswerLengths:
    """Most answers end long before their `max_tokens`, and most clients send none."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_ANSWERS)
        self._sorted: list[int] = []

    @property
    def measured(self) -> bool:
        return bool(self._lengths)

    def count(self, tokens: int) -> None:
        self._lengths.append(tokens)
        self._sorted = sorted(self._lengths)

    def remaining(self, generated: int, max_tokens: int) -> int:
        """Tokens that an answer of `generated` tokens is expected to still get, within its `max_tokens`.

        The mean of those lately that were longer. An answer longer than all of them is expected to go on for as long
        again.
        """
        longer = self._sorted[bisect_right(self._sorted, generated) :]
        if longer:
            whole = round(sum(longer) / len(longer))
        elif generated:
            whole = 2 * generated
        else:
            whole = _ASSUMED_ANSWER
        return max(1, min(whole, max_tokens) - generated)


class Speed:
    """What one answer gets while it shares the engine with the others of its time."""

    def __init__(self) -> None:
        self._gaps = 0
        self._gap = _ASSUMED_GAP
        self._prefills: deque[tuple[int, float]] = deque(maxlen=_ANSWERS)  # (prompt tokens, seconds)

    @property
    def measured(self) -> bool:
        return self._gaps > 0

    def count_gap(self, seconds: float) -> None:
        """The time between two tokens of one answer."""
        self._gaps = min(self._gaps + 1, _GAPS)
        self._gap += (seconds - self._gap) / self._gaps

    def count_prefill(self, tokens: int, seconds: float) -> None:
        """The time that a whole prompt took, cached tokens included."""
        self._prefills.append((tokens, seconds))

    def seconds(self, prompt_tokens: int, new_tokens: int) -> float:
        """How long it takes to compute these."""
        tokens = sum(tokens for tokens, _ in self._prefills)
        per_token = sum(seconds for _, seconds in self._prefills) / tokens if tokens else _ASSUMED_PREFILL
        return prompt_tokens * per_token + new_tokens * self._gap
