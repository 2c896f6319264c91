"""The sampler: one step's logits in, one token for every sequence out.

What a batch's requests ask for is turned into tensors once and kept while the same sequences come in the same
order; a batch of greedy requests without rules costs one `max` and one transfer. Why draws are made this way:
docs/decisions/0600-one-uniform-number-per-token.md.
"""

import operator
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from app.contract.errors import GenerationFailed
from app.contract.events import TokenEvent
from app.contract.requests import SamplingParams
from app.engine.grammars.constraint import Constraint
from app.engine.sampling.choice import Choice
from app.engine.sampling.logits_processors import LogitsProcessors
from app.engine.sampling.logprobs import picked, with_logprobs
from app.engine.transfer import send, send_floats

Sampled = TokenEvent | GenerationFailed
"""A row's outcome. A failed row ends its own request and no other."""

_Chosen = Sampled | None
"""The same before a row's constraint has taken it; None: its rules left no token."""


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

        Tokens are chosen in float32 and appended to their states. A row of which no token can be chosen gives an
        error instead: NoTokenLeft where its rules left none, a plain GenerationFailed where the model's own scores
        are NaN or infinite. Log-probabilities are those of the model's own distribution, before any rule or
        temperature. `logits` is not changed.

        An exception (a device has no memory left) leaves every state as it was: what needs a device comes first, and
        the states change when nothing can fail any more. The same call then gives the tokens that this one owed.
        """
        if not states:
            return []
        batch = self._take_batch(states, logits)
        events = batch.events(logits)
        outcomes = batch.commit(events)
        self._batch = batch
        return outcomes

    def _take_batch(self, states: Sequence[SamplingState], logits: Tensor) -> "_Batch":
        """The batch belongs to this step until the step is done: one that failed half-way is not used again."""
        batch, self._batch = self._batch, None
        if batch is None or not batch.fits(states, logits):
            batch = _Batch(states, logits.shape[-1], logits.device)
        return batch


class _Batch:
    """The tensors of one batch. They hold while the same sequences come in the same order."""

    def __init__(self, states: Sequence[SamplingState], vocabulary: int, device: torch.device) -> None:
        params = [state.params for state in states]
        self._states = tuple(states)
        self._vocabulary = vocabulary
        self._device = device
        self._no_draws = torch.zeros(len(params), 1, device=device) if all(p.greedy for p in params) else None
        self._choice = Choice(params, vocabulary, device)
        self._processors = LogitsProcessors(self._states, vocabulary, device)
        self._reported = [row for row, p in enumerate(params) if p.top_logprobs is not None]

    def fits(self, states: Sequence[SamplingState], logits: Tensor) -> bool:
        return (
            len(states) == len(self._states)
            and all(map(operator.is_, states, self._states))
            and logits.shape[-1] == self._vocabulary
            and logits.device == self._device
        )

    def events(self, logits: Tensor) -> list[_Chosen]:
        """The token of each row with its log-probabilities, None where rules left none to choose, and the error
        where the scores are no numbers. Changes no state."""
        tokens = self._choose(logits)
        events: list[_Chosen] = [None if token is None else TokenEvent(token) for token in tokens]
        reported = [(row, token) for row in self._reported if (token := tokens[row]) is not None]
        if reported:
            for row, event in self._with_logprobs(logits, reported):
                events[row] = event
        failed = [row for row, token in enumerate(tokens) if token is None]
        if failed:
            (rows,) = send(self._device, [failed])
            sound: list[bool] = logits[rows].isfinite().all(dim=-1).tolist()
            for row, numbers in zip(failed, sound, strict=True):
                events[row] = None if numbers else GenerationFailed()
        return events

    def commit(self, events: Sequence[_Chosen]) -> list[Sampled]:
        """Append the tokens to their states, except what a row's constraint does not take. Uses no device."""
        tokens = [event.token if isinstance(event, TokenEvent) else None for event in events]
        outcomes: list[Sampled] = []
        for row, (event, token) in enumerate(zip(events, self._processors.accept(tokens), strict=True)):
            if isinstance(event, GenerationFailed):
                outcomes.append(event)
            elif event is None or token is None:
                outcomes.append(self._processors.failure(row))
            else:
                self._states[row].output.append(token)
                outcomes.append(event)
        return outcomes

    def _with_logprobs(self, logits: Tensor, reported: Sequence[tuple[int, int]]) -> Iterator[tuple[int, TokenEvent]]:
        """The (row, event) of each (row, token), with as many of the most likely tokens as the row wants."""
        rows, tokens = map(list, zip(*reported, strict=True))
        wanted = [self._states[row].params.top_logprobs or 0 for row in rows]
        rows_sent, tokens_sent = send(self._device, [rows, tokens])
        found = picked(logits[rows_sent], tokens_sent, max(wanted))
        for row, most, event in zip(rows, wanted, with_logprobs(tokens, *found), strict=True):
            yield row, replace(event, top_logprobs=event.top_logprobs[:most])

    def _choose(self, logits: Tensor) -> list[int | None]:
        """One token for each row, None where there is none to choose."""
        scores = logits
        if not self._processors.idle:
            scores = logits.to(torch.float32, copy=True)
            self._processors.apply(scores)
        return self._choice.choose(scores, self._uniform())

    def _uniform(self) -> Tensor:
        """One number for each row, `[n, 1]`; a greedy row draws none. The host does not wait for the copy."""
        if self._no_draws is not None:
            return self._no_draws
        numbers = [0.0 if state.params.greedy else state.number() for state in self._states]
        return send_floats(self._device, [numbers])[0].unsqueeze(-1)
