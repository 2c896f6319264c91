"""A model that knows nothing: a random walk over what a constraint allows."""

import random
from collections.abc import Iterable

import numpy as np

from app.engine.grammars.constraint import Constraint


def takes(constraint: Constraint, tokens: Iterable[int]) -> bool:
    """Whether these tokens may come one after the other."""
    for token in tokens:
        if not constraint.allowed()[token // 8] >> token % 8 & 1:
            return False
        constraint.accept(token)
    return True


class Walker:
    """Walks with a liking for `closing` tokens and for ends, so that its walks are short."""

    def __init__(self, stop: int, closing: frozenset[int]) -> None:
        self._stop = stop
        self._closing = closing

    def walk(self, constraint: Constraint, seed: int, longest: int = 300) -> tuple[list[int], bool]:
        """The tokens without the stop token, and whether it came. Fails where nothing is allowed."""
        dice = random.Random(seed)
        tokens: list[int] = []
        while len(tokens) < longest:
            mask = np.unpackbits(np.frombuffer(constraint.allowed(), np.uint8), bitorder="little")
            allowed = np.flatnonzero(mask).tolist()
            assert allowed, "the constraint is stuck"
            token = self._choose(dice, allowed)
            constraint.accept(token)
            if token == self._stop:
                return tokens, True
            tokens.append(token)
        return tokens, False

    def _choose(self, dice: random.Random, allowed: list[int]) -> int:
        if self._stop in allowed and dice.random() < 0.3:
            return self._stop
        closing = self._closing.intersection(allowed)
        if closing and dice.random() < 0.4:
            return dice.choice(sorted(closing))
        return dice.choice(allowed)
