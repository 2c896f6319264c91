"""Applies a request's rules to its scores before a token is chosen: bias, penalties, minimum length, grammar.

The order is `transformers`' own in `generate`: logit bias, repetition penalty, then presence and frequency
penalties (which `transformers` does not have), then everything that forbids tokens. Scores are float32
`[sequences, vocabulary]` on the device of the logits; a forbidden token has -inf.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from app.contract.errors import GenerationFailed, NoTokenLeft
from app.contract.requests import SamplingParams
from app.engine.attention.transfer import send, send_floats
from app.engine.grammars.constraint import Constraint
from app.engine.sampling.grammar_masks import GrammarMasks


class RowState(Protocol):
    """What the processors read of a sequence."""

    params: SamplingParams
    prompt: Sequence[int]
    output: list[int]
    stop_tokens: frozenset[int]
    constraint: Constraint | None


class LogitsProcessors:
    """The rules of one batch, as tensors. Built once for a batch, applied at every step.

    Rows without a rule are not changed. `idle`: no row has a rule.
    """

    def __init__(self, states: Sequence[RowState], vocabulary: int, device: torch.device) -> None:
        self._bias = _Cells(_biases(states), vocabulary, device)
        self._minimum = _Cells(_minima(states), vocabulary, device)  # value: steps for which it holds
        self._repetition = _Repetition(states, vocabulary, device)
        self._frequency = _Frequency(states, vocabulary, device)
        self._constraints = GrammarMasks([state.constraint for state in states], vocabulary)
        self.idle = not (
            self._bias or self._minimum or self._repetition.seen or self._frequency.seen or self._constraints
        )

    def apply(self, scores: Tensor) -> None:
        """Change `scores` in place."""
        if self._bias:
            scores[self._bias.cells] += self._bias.values
        if self._repetition.seen:
            self._repetition.apply(scores)
        if self._frequency.seen:
            self._frequency.apply(scores)
        if self._minimum:
            holds = self._minimum.values > 0
            scores[self._minimum.cells] = scores[self._minimum.cells].masked_fill(holds, -torch.inf)
            self._minimum.values -= 1
        if self._constraints:
            self._constraints.apply(scores)

    def accept(self, tokens: Sequence[int | None]) -> list[int | None]:
        """Count the tokens just chosen, one per row; None for a row that failed. Returns them, with None for those
        that a row's constraint does not take."""
        tokens = self._constraints.accept(tokens)
        if self._repetition.seen:
            self._repetition.seen.accept(tokens)
        if self._frequency.seen:
            self._frequency.seen.accept(tokens)
        return tokens

    def failure(self, row: int) -> GenerationFailed:
        """Why no token could be chosen for a row in the last step."""
        return self._constraints.failures.get(row) or NoTokenLeft()


class _Cells:
    """Scores that a rule changes one by one: (row, token) pairs, and a value for each."""

    def __init__(self, entries: Iterable[tuple[int, int, float]], vocabulary: int, device: torch.device) -> None:
        inside = [entry for entry in entries if 0 <= entry[1] < vocabulary]
        rows, tokens = send(device, [[row for row, _, _ in inside], [token for _, token, _ in inside]])
        self.cells = (rows, tokens)
        (self.values,) = send_floats(device, [[value for _, _, value in inside]])
        self._any = bool(inside)

    def __bool__(self) -> bool:
        return self._any


class _Seen:
    """Which tokens the rows that need to know hold, and how often: one cell for each row and distinct token.

    Cells and not a `[rows, vocabulary]` table: a text holds hundreds of distinct tokens, a vocabulary 100,000.
    """

    def __init__(self, texts: Mapping[int, Iterable[int]], vocabulary: int, device: torch.device) -> None:
        self._vocabulary = vocabulary
        self._device = device
        self._places: dict[int, dict[int, int]] = {row: {} for row in texts}
        self._size = 0
        self.cells = (torch.empty(0, dtype=torch.long, device=device),) * 2
        self.counts = torch.empty(0, dtype=torch.long, device=device)
        self._enter([], [(row, token, n) for row, text in texts.items() for token, n in Counter(text).items()])

    def __bool__(self) -> bool:
        return bool(self._places)

    def accept(self, tokens: Sequence[int | None]) -> None:
        again, new = [], []
        for row, places in self._places.items():
            token = tokens[row]
            if token is None:
                continue
            if token in places:
                again.append(places[token])
            else:
                new.append((row, token, 1))
        self._enter(again, new)

    def _enter(self, again: list[int], entries: Sequence[tuple[int, int, int]]) -> None:
        """Count the cells `again` once more, and make one for each (row, token, count), all in one copy."""
        inside = [entry for entry in entries if entry[1] < self._vocabulary]
        for row, token, _ in inside:
            self._places[row][token] = self._size
            self._size += 1
        columns = [list(column) for column in zip(*inside, strict=True)] or [[], [], []]
        repeated, rows, tokens, counts = send(self._device, [again, *columns])
        self.counts[repeated] += 1
        self.cells = (torch.cat((self.cells[0], rows)), torch.cat((self.cells[1], tokens)))
        self.counts = torch.cat((self.counts, counts))


class _Repetition:
    """Divides positive and multiplies negative scores of every token seen in prompt or output."""

    def __init__(self, states: Sequence[RowState], vocabulary: int, device: torch.device) -> None:
        penalties = [state.params.repetition_penalty for state in states]
        texts = {
            row: [*states[row].prompt, *states[row].output] for row, penalty in enumerate(penalties) if penalty != 1.0
        }
        (self._penalties,) = send_floats(device, [penalties])
        self.seen = _Seen(texts, vocabulary, device)

    def apply(self, scores: Tensor) -> None:
        part, penalties = scores[self.seen.cells], self._penalties[self.seen.cells[0]]
        scores[self.seen.cells] = torch.where(part < 0, part * penalties, part / penalties)


class _Frequency:
    """Takes `presence` once, and `frequency` for each appearance, from the scores of the output's tokens."""

    def __init__(self, states: Sequence[RowState], vocabulary: int, device: torch.device) -> None:
        presence = [state.params.presence_penalty for state in states]
        frequency = [state.params.frequency_penalty for state in states]
        texts = {row: states[row].output for row in range(len(states)) if presence[row] or frequency[row]}
        self._presence, self._frequency = send_floats(device, [presence, frequency])
        self.seen = _Seen(texts, vocabulary, device)

    def apply(self, scores: Tensor) -> None:
        rows = self.seen.cells[0]
        scores[self.seen.cells] -= self._presence[rows] + self._frequency[rows] * self.seen.counts


def _biases(states: Sequence[RowState]) -> Iterable[tuple[int, int, float]]:
    for row, state in enumerate(states):
        for token, bias in state.params.logit_bias.items():
            yield row, token, bias


def _minima(states: Sequence[RowState]) -> Iterable[tuple[int, int, float]]:
    for row, state in enumerate(states):
        steps = state.params.min_tokens - len(state.output)
        if steps > 0:
            for token in state.stop_tokens:
                yield row, token, float(steps)
