"""Applies the grammars of a batch: a token that a row's grammar does not allow gets the score -inf.

A constraint may raise anything. That ends its own request and no other. Masks are computed one after the other:
docs/decisions/0700-llguidance.md has the figures.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from app.contract.errors import GenerationFailed, GrammarExhausted
from app.engine.grammars.constraint import Constraint
from app.engine.transfer import send_tensor

_log = logging.getLogger(__name__)


class GrammarMasks:
    """The constraints of one batch. Rows without one are not changed."""

    def __init__(self, constraints: Sequence[Constraint | None], vocabulary: int) -> None:
        self._rows = [(row, constraint) for row, constraint in enumerate(constraints) if constraint is not None]
        self._vocabulary = vocabulary
        self.failures: dict[int, GenerationFailed] = {}
        """Why a row's constraint failed in the last step, where it says so."""

    def __bool__(self) -> bool:
        return bool(self._rows)

    def apply(self, scores: Tensor) -> None:
        """Forbid in `scores` `[rows, vocabulary]`, in place, what is not allowed. A constraint that fails allows
        nothing."""
        self.failures.clear()
        forbidden = np.stack([self._forbidden(row, constraint) for row, constraint in self._rows])
        mask = send_tensor(scores.device, torch.from_numpy(forbidden))
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
            except Exception as error:  # noqa: BLE001  # a constraint may raise anything
                self._note(row, error)
                taken[row] = None
        return taken

    def _forbidden(self, row: int, constraint: Constraint) -> NDArray[np.bool_]:
        try:
            allowed = constraint.allowed()
        except Exception as error:  # noqa: BLE001  # a constraint may raise anything
            self._note(row, error)
            allowed = b""
        bits = np.unpackbits(np.frombuffer(allowed, np.uint8), count=self._vocabulary, bitorder="little")
        # `count` adds zeros: tokens that only the model's padded vocabulary has are forbidden, too.
        forbidden: NDArray[np.bool_] = bits == 0
        return forbidden

    def _note(self, row: int, error: Exception) -> None:
        if isinstance(error, GrammarExhausted):  # its schema's fault; the request's log line tells it
            self.failures[row] = error
        else:
            _log.error("a constraint failed", exc_info=error)
