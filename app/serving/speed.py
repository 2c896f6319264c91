"""How fast answers come and how long they are, measured lately: what expected waits are computed from."""

from bisect import bisect_right
from collections import deque

from app.contract.events import Timings, Usage

_ASSUMED_ANSWER = 512  # tokens, before an answer was measured
_ASSUMED_GAP = 1 / 20  # seconds between two tokens, before there were two: one user of the script that this replaces
_ASSUMED_PREFILL = 1 / 1000  # seconds per prompt token, before a prompt was computed

_ANSWERS = 64  # the last answers, whose lengths and prompts count


class AnswerLengths:
    """Most answers end long before their `max_tokens`, and most clients send none."""

    def __init__(self) -> None:
        self._lengths: deque[int] = deque(maxlen=_ANSWERS)
        self._sorted: list[int] = []

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
    """What one answer gets while it shares the engine with the others of its time: of the last ones that succeeded.

    Times until the service had an answer and not until its client had read it: a slow reader is no slow engine.
    """

    def __init__(self) -> None:
        self.measured = False
        self._answers: deque[tuple[Usage, Timings]] = deque(maxlen=_ANSWERS)
        self._prefill = _ASSUMED_PREFILL
        self._gap = _ASSUMED_GAP

    def count(self, usage: Usage, timings: Timings) -> None:
        """One answer. Cached tokens of its prompt count too: others will have as many."""
        if usage.completion_tokens < 2:  # without a time between two tokens
            return
        self.measured = True
        self._answers.append((usage, timings))
        prompt_tokens = sum(each.prompt_tokens for each, _ in self._answers)
        gaps = sum(each.completion_tokens - 1 for each, _ in self._answers)
        self._prefill = sum(each.computed for _, each in self._answers) / prompt_tokens
        self._gap = sum(each.decode for _, each in self._answers) / gaps

    def seconds(self, prompt_tokens: int, new_tokens: int) -> float:
        """How long it takes to compute these."""
        return prompt_tokens * self._prefill + new_tokens * self._gap
