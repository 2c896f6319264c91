"""Grammars in the sampler: each row has its own, and one that fails ends its own row alone."""

import pytest
import torch
from torch import Tensor

from app.contract.errors import GenerationFailed
from app.contract.events import TokenEvent
from app.contract.requests import SamplingParams
from app.engine.grammars.constraint import Constraint
from app.engine.sampling.sampler import Sampler, SamplingState
from tests.support.constraints import Broken, Table

VOCABULARY = 1000  # more than the 512 tokens that the constraints know of: a padded vocabulary


def logits(rows: int, seed: int) -> Tensor:
    return torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 4


def state(constraint: Constraint | None = None, temperature: float = 5.0) -> SamplingState:
    return SamplingState(SamplingParams(seed=3, temperature=temperature), (1,), constraint=constraint)


def run(states: list[SamplingState], steps: int) -> None:
    sampler = Sampler()
    for step in range(steps):
        for outcome in sampler.sample(logits(1, step).expand(len(states), -1), states):
            assert isinstance(outcome, TokenEvent)


@pytest.mark.parametrize("temperature", [0.0, 5.0])
def test_each_row_keeps_to_its_own_constraint_and_a_free_one_is_untouched(temperature: float) -> None:
    odd = Table(lambda _: {t for t in range(512) if t % 2})
    counted = Table(lambda n: {10 * n, 10 * n + 1})
    free = state(temperature=temperature)
    run([state(odd, temperature), free, state(counted, temperature)], 20)
    assert all(token % 2 for token in odd.taken)
    assert [token // 10 for token in counted.taken] == list(range(20))
    alone = state(temperature=temperature)
    run([alone], 20)
    assert free.output == alone.output


def test_a_constraint_hears_every_token_once_also_when_the_batch_changes() -> None:
    table = Table(lambda _: set(range(100, 200)))
    one, sampler = state(table), Sampler()
    sampler.sample(logits(1, 1), [one])
    sampler.sample(logits(2, 2), [state(), one])
    sampler.sample(logits(1, 3), [one])
    assert table.taken == one.output
    assert len(table.taken) == table.asked == 3


def test_tokens_beyond_the_constraints_vocabulary_are_forbidden() -> None:
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 900] = 50.0
    one = state(Table(lambda _: {7}), temperature=0.0)
    assert Sampler().sample(scores, [one]) == [TokenEvent(7)]


@pytest.mark.parametrize("bad", [Table(lambda _: set()), Broken("allowed"), Broken("accept")])
def test_a_constraint_that_fails_or_allows_nothing_ends_its_own_row(bad: Constraint) -> None:
    reporting = SamplingParams(seed=3, temperature=5.0, top_logprobs=1)  # known before the constraint refuses
    failing, good = SamplingState(reporting, (1,), constraint=bad), state()
    outcomes = Sampler().sample(logits(1, 1).expand(2, -1), [failing, good])
    assert isinstance(outcomes[0], GenerationFailed)
    alone = state()
    assert outcomes[1:] == Sampler().sample(logits(1, 1), [alone])
    assert failing.output == []
