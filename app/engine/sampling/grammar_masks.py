"""Grammars at work on the rows of a batch: what each allows next, as -inf for everything else.

A constraint is foreign code on the inference thread: whatever it raises is the end of its own request and of no
other. Masks are computed one after the other: docs/decisions/0700-llguidance.md has the figures.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.contract.messages import Constraint

_log = logging.getLogger(__name__)


class GrammarMasks:
    """The constraints of one batch; a row without one is left alone."""

    def __init__(self, constraints: Sequence[Constraint | None], vocabulary: int) -> None:
        self._rows = [(row, constraint) for row, constraint in enumerate(constraints) if constraint is not None]
        self._vocabulary = vocabulary

    def __bool__(self) -> bool:
        return bool(self._rows)

    def apply(self, scores: Tensor) -> None:
        """Forbid in `scores` `[rows, vocabulary]`, in place, what is not allowed. A constraint that fails allows
        nothing."""
        forbidden = np.stack([self._forbidden(constraint) for _, constraint in self._rows])
        mask = torch.from_numpy(forbidden).to(scores.device)
        for (row, _), one in zip(self._rows, mask, strict=True):
            scores[row].masked_fill_(one, -torch.inf)

    def accept(self, tokens: Sequence[int | None]) -> list[int | None]:
        """The chosen tokens, one per row, with None for those that their constraint does not take."""
        taken = list(tokens)
        for row, constraint in self._rows:
            token = taken[row]
            try:
                if token is not None:
                    constraint.accept(token)
            except Exception:  # noqa: BLE001  # foreign code
                _log.exception("a constraint does not take a token that it allowed")
                taken[row] = None
        return taken

    def _forbidden(self, constraint: Constraint) -> NDArray[np.bool_]:
        try:
            allowed = constraint.allowed()
        except Exception:  # noqa: BLE001  # foreign code
            _log.exception("a constraint failed")
            allowed = b""
        bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=self._vocabulary, bitorder="little")
        forbidden: NDArray[np.bool_] = (
            bits == 0
        )  # of tokens that only the model's padded vocabulary has, too: `count` adds zeros
        return forbidden
