"""Divides the prompt tokens of a step among the sequences that prefill.

A step's budget is divided evenly between the tenants that have prompts to compute. Half of a tenant's part goes to
its shortest remaining prompt, so that a short question does not wait for a long document; the other half goes to its
oldest, so that the long one ends too. Tokens that a part does not use go to the oldest sequence of all.

The bound: with k such tenants and a budget of b tokens, a prompt whose pending tokens and those of all shorter
prompts of its tenant are n in sum is computed within ceil(n / max(1, b // k // 2)) steps.
"""

from collections.abc import Iterator, Sequence

from app.engine.kv.sequence import TokenSequence


def share_out(pending: Sequence[TokenSequence], budget: int) -> Iterator[tuple[TokenSequence, int]]:
    """(sequence, tokens) for a step, of sequences in the order of their admission; `budget` tokens at most."""
    shares = _Shares(pending, budget)
    tenants = list(dict.fromkeys(sequence.tenant for sequence in pending))
    for tenant in tenants:
        own = [sequence for sequence in pending if sequence.tenant == tenant]
        part = max(1, budget // len(tenants))
        part = shares.give(sorted(own, key=lambda sequence: sequence.pending), max(1, part // 2), part)
        shares.give(own, part, part)
    shares.give(pending, budget, budget)
    for sequence in pending:
        if shares.given[sequence.id]:
            yield sequence, shares.given[sequence.id]


class _Shares:
    """The tokens that each sequence has so far."""

    def __init__(self, pending: Sequence[TokenSequence], budget: int) -> None:
        self.given = dict.fromkeys((sequence.id for sequence in pending), 0)
        self._left = budget

    def give(self, order: Sequence[TokenSequence], most: int, part: int) -> int:
        """Give the sequences up to `most` tokens, in this order. Returns the rest of `part`."""
        for sequence in order:
            length = min(sequence.pending - self.given[sequence.id], most, self._left)
            if length <= 0:
                continue
            self.given[sequence.id] += length
            self._left -= length
            most -= length
            part -= length
        return part
