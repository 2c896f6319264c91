"""The sampler: one step's logits in, one token for every sequence out.

What a batch's requests ask for is turned into tensors once and kept while the same sequences come in the same
order; a batch of greedy requests without rules costs one `max` and one transfer. Why draws are made this way:
docs/decisions/0600-one-uniform-number-per-token.md.
"""

import operator
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from app.contract.errors import GenerationFailed
from app.contract.events import TokenEvent
from app.contract.requests import SamplingParams
from app.engine.attention.transfer import send, send_floats
from app.engine.grammars.constraint import Constraint
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
from app.engine.sampling.logits_processors import LogitsProcessors
from app.engine.sampling.logprobs import picked, with_logprobs

Sampled = TokenEvent | GenerationFailed
"""A row's outcome. A failed row ends its own request and no other."""


class SamplingState:
    """One sequence's side of sampling: its rules, its output so far, and its own random numbers.

    Belongs to one `Sampler`: nothing else appends to `output` or advances `constraint`.
    """

    __slots__ = ("_number", "_number_at", "_random", "constraint", "output", "params", "prompt", "stop_tokens")

    def __init__(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        stop_tokens: frozenset[int] = frozenset(),
        constraint: Constraint | None = None,
    ) -> None:
        self.params = params
        self.prompt = prompt
        self.stop_tokens = stop_tokens
        self.constraint = constraint
        self.output: list[int] = []
        # One number per token: Python's generator gives it in 50 ns, a torch.Generator in microseconds.
        self._random = random.Random(params.seed)  # noqa: S311  # sampling is not cryptography
        self._number, self._number_at = 0.0, -1

    def number(self) -> float:
        """The uniform number of the next token; the same one until that token is chosen: a step may be repeated."""
        if self._number_at != len(self.output):
            self._number, self._number_at = self._random.random(), len(self.output)
        return self._number


class Sampler:
    """Chooses tokens. Not thread-safe: it lives on the inference thread."""

    def __init__(self) -> None:
        self._batch: _Batch | None = None

    def sample(self, logits: Tensor, states: Sequence[SamplingState]) -> list[Sampled]:
        """One outcome for each row of `logits` `[len(states), vocabulary]`, any float type, any device.

        Tokens are chosen in float32 and appended to their states. A row of which no token can be chosen (NaN,
        infinite, or everything forbidden) gives a GenerationFailed instead. Log-probabilities are those of the
        model's own distribution, before any rule or temperature. `logits` is not changed.
        """
        if not states:
            return []
        batch = self._batch_of(states, logits)
        tokens = batch.processors.accept(batch.choose(logits))
        for state, token in zip(states, tokens, strict=True):
            if token is not None:
                state.output.append(token)
        events: list[Sampled] = [
            batch.processors.failure(row) if token is None else TokenEvent(token) for row, token in enumerate(tokens)
        ]
        if batch.reported:
            _add_logprobs(events, logits, batch.reported, states)
        return events

    def _batch_of(self, states: Sequence[SamplingState], logits: Tensor) -> "_Batch":
        batch = self._batch
        if batch is None or not batch.fits(states, logits):
            batch = self._batch = _Batch(states, logits.shape[-1], logits.device)
        return batch


class _Batch:
    """The tensors of one batch. They hold while the same sequences come in the same order."""

    def __init__(self, states: Sequence[SamplingState], vocabulary: int, device: torch.device) -> None:
        params = [state.params for state in states]
        self._states = tuple(states)
        self._vocabulary = vocabulary
        self._device = device
        self._filters = Filters.of(params, vocabulary, device)
        self._no_draws = torch.zeros(len(params), 1, device=device) if all(p.greedy for p in params) else None
        draws = [_draw_for(p) for p in params]
        self._groups = [
            self._group(draw, [row for row, its in enumerate(draws) if its is draw]) for draw in dict.fromkeys(draws)
        ]
        self._order = [row for group in self._groups for row in group.rows]
        self.processors = LogitsProcessors(self._states, vocabulary, device)
        self.reported = [row for row, p in enumerate(params) if p.top_logprobs is not None]

    def fits(self, states: Sequence[SamplingState], logits: Tensor) -> bool:
        return (
            len(states) == len(self._states)
            and all(map(operator.is_, states, self._states))
            and logits.shape[-1] == self._vocabulary
            and logits.device == self._device
        )

    def choose(self, logits: Tensor) -> list[int | None]:
        """One token for each row, None where there is none to choose."""
        scores = logits
        if not self.processors.idle:
            scores = logits.to(torch.float32, copy=True)
            self.processors.apply(scores)
        uniform = self._uniform()
        results = [group.choose(scores, uniform) for group in self._groups]
        chosen: list[int | None] = [None] * len(self._states)
        undecided = _note(chosen, self._order, results[0] if len(results) == 1 else torch.cat(results, dim=1))
        for candidates in (MORE_CANDIDATES, self._vocabulary):
            if undecided:
                group = self._group(partial(draw_filtered, candidates=candidates), undecided)
                undecided = _note(chosen, undecided, group.choose(scores, uniform))
        return chosen

    def _uniform(self) -> Tensor:
        """One number for each row, `[n, 1]`; a greedy row draws none. The host does not wait for the copy."""
        if self._no_draws is not None:
            return self._no_draws
        numbers = [0.0 if state.params.greedy else state.number() for state in self._states]
        return send_floats(self._device, [numbers])[0].unsqueeze(-1)

    def _group(self, draw: Draw, rows: list[int]) -> "_Group":
        whole = rows == list(range(len(self._states)))
        index = None if whole else send(self._device, [rows])[0]
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


def _add_logprobs(
    events: list[Sampled], logits: Tensor, rows: Sequence[int], states: Sequence[SamplingState]
) -> None:
    """Give the events of `rows` their log-probabilities, and those of the most likely tokens."""
    wanted = [row for row in rows if isinstance(events[row], TokenEvent)]
    if not wanted:
        return
    tokens = [states[row].output[-1] for row in wanted]
    most = max(states[row].params.top_logprobs or 0 for row in wanted)
    rows_sent, tokens_sent = send(logits.device, [wanted, tokens])
    found = picked(logits[rows_sent], tokens_sent, most)
    for row, event in zip(wanted, with_logprobs(tokens, *found), strict=True):
        events[row] = replace(event, top_logprobs=event.top_logprobs[: states[row].params.top_logprobs])
