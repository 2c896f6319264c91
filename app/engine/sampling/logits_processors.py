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
from app.engine.grammars.constraint import Constraint
from app.engine.sampling.grammar_masks import GrammarMasks
from app.engine.transfer import send, send_floats


class RowState(Protocol):
    """What the processors read of a sequence."""

    params: SamplingParams
    prompt: Sequence[int]
    output: list[int]
    stop_tokens: frozenset[int]
    constraint: Constraint | None


class LogitsProcessors:
    """The rules of one batch, as tensors. Built once for a batch, applied at every step.

    Rows without a rule are not changed. `idle`: no row has a rule. The outputs of the states are what counts: the
    tensors follow them. After an exception they may have followed half-way, and are to be built anew.
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
        """Change `scores` in place. Once for each token that is appended: it also counts the steps of min_tokens."""
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
        """The tokens just chosen, one per row, with None for those that a row's constraint does not take. Uses no
        device."""
        return self._constraints.accept(tokens)

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

    def __init__(
        self, texts: Mapping[int, tuple[Sequence[int], Sequence[int]]], vocabulary: int, device: torch.device
    ) -> None:
        """`texts`: of each row what its output follows, and its output."""
        self._vocabulary = vocabulary
        self._device = device
        self._outputs = {row: output for row, (_, output) in texts.items()}
        self._counted = {row: len(output) for row, (_, output) in texts.items()}
        self._places: dict[int, dict[int, int]] = {row: {} for row in texts}
        self._size = 0
        self.cells = (torch.empty(0, dtype=torch.long, device=device),) * 2
        self.counts = torch.empty(0, dtype=torch.long, device=device)
        self._enter({row: Counter([*before, *output]) for row, (before, output) in texts.items()})

    def __bool__(self) -> bool:
        return bool(self._places)

    def follow(self) -> None:
        """Count what was appended to the outputs since the last call."""
        self._enter({row: Counter(output[self._counted[row] :]) for row, output in self._outputs.items()})
        self._counted = {row: len(output) for row, output in self._outputs.items()}

    def _enter(self, fresh: Mapping[int, Counter[int]]) -> None:
        """Count each row's `fresh` tokens, and make cells for those that it did not hold, all in one copy."""
        again: list[tuple[int, int]] = []
        new: list[tuple[int, int, int]] = []
        for row, counter in fresh.items():
            places = self._places[row]
            for token, count in counter.items():
                if token in places:
                    again.append((places[token], count))
                elif token < self._vocabulary:
                    places[token] = self._size + len(new)
                    new.append((row, token, count))
        self._size += len(new)
        if again or new:
            columns = [*_columns(again, 2), *_columns(new, 3)]
            repeated, more, rows, tokens, counts = send(self._device, columns)
            self.counts[repeated] += more
            self.cells = (torch.cat((self.cells[0], rows)), torch.cat((self.cells[1], tokens)))
            self.counts = torch.cat((self.counts, counts))


def _columns(entries: Sequence[tuple[int, ...]], count: int) -> list[list[int]]:
    """The `count` columns of a table that may be empty."""
    return [[entry[column] for entry in entries] for column in range(count)]


class _Repetition:
    """Divides positive and multiplies negative scores of every token seen in prompt or output."""

    def __init__(self, states: Sequence[RowState], vocabulary: int, device: torch.device) -> None:
        penalties = [state.params.repetition_penalty for state in states]
        texts = {
            row: (states[row].prompt, states[row].output) for row, penalty in enumerate(penalties) if penalty != 1.0
        }
        (self._penalties,) = send_floats(device, [penalties])
        self.seen = _Seen(texts, vocabulary, device)

    def apply(self, scores: Tensor) -> None:
        self.seen.follow()
        part, penalties = scores[self.seen.cells], self._penalties[self.seen.cells[0]]
        scores[self.seen.cells] = torch.where(part < 0, part * penalties, part / penalties)


class _Frequency:
    """Takes `presence` once, and `frequency` for each appearance, from the scores of the output's tokens."""

    def __init__(self, states: Sequence[RowState], vocabulary: int, device: torch.device) -> None:
        presence = [state.params.presence_penalty for state in states]
        frequency = [state.params.frequency_penalty for state in states]
        texts = {row: ((), states[row].output) for row in range(len(states)) if presence[row] or frequency[row]}
        self._presence, self._frequency = send_floats(device, [presence, frequency])
        self.seen = _Seen(texts, vocabulary, device)

    def apply(self, scores: Tensor) -> None:
        self.seen.follow()
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
