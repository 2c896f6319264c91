"""Divides the prompt tokens of a step among the sequences that prefill.

A step's budget is divided evenly between the tenants that have prompts to compute. Half of a tenant's part goes to
its shortest remaining prompt, so that a short question does not wait for a long document; the other half goes to its
oldest, so that the long one ends too. A part has two tokens at least: where there are too many tenants for that, they
take turns, and a tenant that comes new has its first turn after those of all others. Tokens that a part does not use
go to the oldest sequence of all.

The bound: with at most k such tenants and a budget of b ≥ 2 tokens, m = min(k, b // 2) of them have a part of b // m
tokens in a step, and each has one at least once in ceil(k / m) steps. So a prompt whose pending tokens and those of
all shorter prompts of its tenant are n in sum is computed within ceil(n / (b // m // 2)) * ceil(k / m) steps.
A prompt that follows another (`followers.py`) may take one step more for each that it follows.
"""

from collections.abc import Iterator, Mapping, Sequence

from app.engine.kv.sequence import TokenSequence


class PrefillShares:
    """Whose turn it is."""

    def __init__(self) -> None:
        self._order: list[str] = []  # the tenants of the last step, in the order of their turns
        self._served = 0  # the first of them had a part

    def share_out(
        self, pending: Sequence[TokenSequence], budget: int, remaining: Mapping[TokenSequence, int]
    ) -> Iterator[tuple[TokenSequence, int]]:
        """(sequence, tokens) for a step, of sequences in the order of their admission; `budget` tokens at most.

        `remaining` has those that others follow (`followers.py`), with the tokens of the shortest of these: such a
        sequence is as short as that. The next call gives the same tenants a part, unless `advance` was called.
        """
        tenants = dict.fromkeys(sequence.tenant for sequence in pending)
        self._order = [each for each in self._order if each in tenants]
        self._order += [each for each in tenants if each not in self._order]
        self._served = max(1, min(len(tenants), budget // 2))
        tokens = _Tokens(pending, budget)
        for tenant in self._order[: self._served]:
            own = [sequence for sequence in pending if sequence.tenant == tenant]
            part = max(1, budget // self._served)
            shortest = sorted(own, key=lambda each: min(each.pending, remaining.get(each, each.pending)))
            part = tokens.give(shortest, max(1, part // 2), part)
            tokens.give(own, part, part)
        tokens.give(pending, budget, budget)
        for sequence in pending:
            if tokens.given[sequence.id]:
                yield sequence, tokens.given[sequence.id]

    def advance(self) -> None:
        """The step was computed: who had a part comes after the others."""
        self._order = [*self._order[self._served :], *self._order[: self._served]]
        self._served = 0


class _Tokens:
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
