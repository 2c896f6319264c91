"""Chooses a token for each row of a batch, by as few draws as the rows' parameters allow."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from app.contract.requests import SamplingParams
from app.engine.sampling.draw import (
    CANDIDATES,
    CHOSEN,
    FEW_CANDIDATES,
    MORE_CANDIDATES,
    UNDECIDED,
    Draw,
    Filters,
    draw_few,
    draw_filtered,
    draw_limited,
    draw_plain,
    greedy,
)
from app.engine.transfer import send


class Choice:
    """The parameters of a batch's rows as tensors, and its rows in groups that one draw serves."""

    def __init__(self, params: Sequence[SamplingParams], vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device
        self._all = list(range(len(params)))
        self._filters = Filters.of(params, vocabulary, device)
        draws = [_draw_for(p) for p in params]
        self._groups = [
            self._group(draw, [row for row, its in enumerate(draws) if its is draw]) for draw in dict.fromkeys(draws)
        ]
        self._order = [row for group in self._groups for row in group.rows]

    def choose(self, scores: Tensor, uniform: Tensor) -> list[int | None]:
        """One token for each row of `scores` `[n, vocabulary]` by its number in `uniform` `[n, 1]`; None where there
        is none to choose. Waits for the device, once unless a draw needs more candidates."""
        results = [group.choose(scores, uniform) for group in self._groups]
        chosen: list[int | None] = [None] * len(self._all)
        undecided = _note(chosen, self._order, results[0] if len(results) == 1 else torch.cat(results, dim=1))
        for candidates in (MORE_CANDIDATES, self._vocabulary):
            if undecided:
                group = self._group(partial(draw_filtered, candidates=candidates), undecided)
                undecided = _note(chosen, undecided, group.choose(scores, uniform))
        return chosen

    def _group(self, draw: Draw, rows: list[int]) -> "_Group":
        index = None if rows == self._all else send(self._device, [rows])[0]
        return _Group(draw, rows, index, self._filters if index is None else self._filters.select(index))


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows that are chosen in the same way. `index` is None when they are the whole batch."""

    draw: Draw
    rows: list[int]
    index: Tensor | None
    filters: Filters

    def choose(self, scores: Tensor, uniform: Tensor) -> Tensor:
        if self.index is not None:
            scores, uniform = scores.index_select(0, self.index), uniform.index_select(0, self.index)
        return self.draw(scores, self.filters, uniform)


def _note(chosen: list[int | None], rows: Sequence[int], result: Tensor) -> list[int]:
    """Enter the tokens of a draw over `rows` into `chosen`. Returns the rows that it did not decide."""
    tokens, verdicts = result.tolist()
    undecided = []
    for row, token, verdict in zip(rows, tokens, verdicts, strict=True):
        if verdict == CHOSEN:
            chosen[row] = token
        elif verdict == UNDECIDED:
            undecided.append(row)
    return undecided


def _draw_for(params: SamplingParams) -> Draw:
    if params.greedy:
        return greedy
    if 0 < params.top_k < FEW_CANDIDATES:
        return draw_few
    if 0 < params.top_k < CANDIDATES:
        return draw_limited
    return draw_filtered if params.top_k > 0 or params.top_p < 1.0 or params.min_p > 0.0 else draw_plain
