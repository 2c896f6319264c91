"""The sampler against transformers' own processors, and its promise that a sequence is on its own."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    MinNewTokensLengthLogitsProcessor,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    SequenceBiasLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from app.contract.errors import GenerationFailed, NoTokenLeft
from app.contract.events import TokenEvent
from app.contract.requests import SamplingParams
from app.engine.sampling import draw as drawing
from app.engine.sampling.draw import Draw, Filters, draw_few, draw_filtered, draw_limited, draw_plain
from app.engine.sampling.logits_processors import LogitsProcessors
from app.engine.sampling.sampler import Sampler, SamplingState
from tests.support.constraints import Table
from tests.support.failing import Failing

VOCABULARY = 1000
CPU = torch.device("cpu")


def logits(rows: int, seed: int = 0, vocabulary: int = VOCABULARY) -> Tensor:
    return torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * 4


def state(prompt: Sequence[int] = (1, 2, 3), stop: Sequence[int] = (), **params: Any) -> SamplingState:
    params.setdefault("seed", 7)
    return SamplingState(SamplingParams(**params), tuple(prompt), stop_tokens=frozenset(stop))


def token(outcome: TokenEvent | GenerationFailed) -> int:
    assert isinstance(outcome, TokenEvent)
    return outcome.token


def tokens(outcomes: Sequence[TokenEvent | GenerationFailed]) -> list[int]:
    return [token(outcome) for outcome in outcomes]


def theirs(one: SamplingState, scores: Tensor) -> Tensor:
    """What transformers' `generate` makes of one row under the same parameters, in its own order."""
    p = one.params
    chain = LogitsProcessorList()
    if p.logit_bias:
        chain.append(SequenceBiasLogitsProcessor([[[t], b] for t, b in p.logit_bias.items()]))
    if p.repetition_penalty != 1.0:
        chain.append(RepetitionPenaltyLogitsProcessor(p.repetition_penalty))
    if p.min_tokens:
        chain.append(MinNewTokensLengthLogitsProcessor(len(one.prompt), p.min_tokens, sorted(one.stop_tokens)))
    if p.temperature not in (0.0, 1.0):
        chain.append(TemperatureLogitsWarper(p.temperature))
    if p.top_k:
        chain.append(TopKLogitsWarper(p.top_k))
    if p.top_p < 1.0:
        chain.append(TopPLogitsWarper(p.top_p))
    if p.min_p:
        chain.append(MinPLogitsWarper(p.min_p))
    seen = torch.LongTensor([[*one.prompt, *one.output]])
    return chain(seen, scores[None].clone())[0]


RULES: list[dict[str, Any]] = [
    {},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"logit_bias": {5: 3.0, 6: -100.0, 7: 0.5}},
    {"min_tokens": 10, "stop": (2, 8)},
    {"min_tokens": 2, "stop": (2, 8)},  # already reached: two tokens are out
    {
        "repetition_penalty": 1.1,
        "logit_bias": {1: -2.0},
        "min_tokens": 5,
        "stop": (0,),
    },
]


def test_rules_equal_transformers_in_one_mixed_batch() -> None:
    states = [state(prompt=(1, 2, 2, 50 + row), **rule) for row, rule in enumerate(RULES)]
    for one in states:
        one.output += [10, 2]
    scores = logits(len(states))
    want = torch.stack([theirs(one, scores[row]) for row, one in enumerate(states)])
    got = scores.clone()
    LogitsProcessors(states, VOCABULARY, CPU).apply(got)
    torch.testing.assert_close(got, want)


def test_penalties_follow_the_output_as_it_grows() -> None:
    rules: dict[str, Any] = {"temperature": 0.0, "repetition_penalty": 1.2}
    one, other = state(**rules), state(**rules, prompt=(4, 5))
    sampler = Sampler()
    for step in range(30):
        scores = logits(2, seed=step % 3)
        want = [int(theirs(it, row).argmax()) for it, row in zip((one, other), scores, strict=True)]
        assert tokens(sampler.sample(scores, [one, other])) == want


def test_presence_and_frequency_penalties_follow_openais_formula() -> None:
    states = [state(presence_penalty=0.7, frequency_penalty=0.3), state(), state(frequency_penalty=-1.5)]
    for one in states:
        one.output += [4, 4, 4, 8]
    scores = logits(3)
    want = scores.clone()
    want[0, 4] -= 0.7 + 3 * 0.3
    want[0, 8] -= 0.7 + 0.3
    want[2, 4] += 3 * 1.5
    want[2, 8] += 1.5
    processors = LogitsProcessors(states, VOCABULARY, CPU)
    got = scores.clone()
    processors.apply(got)
    torch.testing.assert_close(got, want)

    states[0].output.append(8)
    states[1].output.append(1)  # the last row failed: its output is what it was
    want[0, 8] -= 0.3
    processors.apply(got := scores.clone())
    torch.testing.assert_close(got, want)


FILTERS: list[dict[str, Any]] = [
    {"temperature": 0.3},
    {"temperature": 1.7},
    {"top_k": 1},
    {"top_k": 7},
    {"top_k": 5000},
    {"top_p": 0.0},
    {"top_p": 0.3},
    {"top_p": 0.95, "temperature": 0.3},
    {"top_p": 0.99, "temperature": 2.5},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"top_k": 40, "top_p": 0.8, "min_p": 0.02, "temperature": 0.7},
    {"top_k": 40, "top_p": 0.5, "temperature": 3.0},  # top-p of what top-k left, which is little of the whole
]


GRID = 4000


def reachable(draw: Draw, rule: dict[str, Any], scores: Tensor) -> Tensor:
    """How often each token comes out for evenly spaced numbers: the distribution that is drawn from."""
    numbers = (torch.arange(GRID) + 0.5).unsqueeze(-1) / GRID
    drawn, verdicts = draw(
        scores.expand(GRID, -1), Filters.of([state(**rule).params] * GRID, VOCABULARY, CPU), numbers
    )
    assert verdicts.eq(0).all()
    return torch.bincount(drawn, minlength=VOCABULARY) / GRID


@pytest.mark.parametrize("candidates", [64, VOCABULARY])
def test_filters_keep_the_tokens_that_transformers_keeps(candidates: int) -> None:
    params = [state(**rule) for rule in FILTERS]
    scores = logits(len(params), seed=3)
    filters = Filters.of([one.params for one in params], VOCABULARY, CPU)
    want = torch.stack([theirs(one, scores[row]) for row, one in enumerate(params)])
    kept = want.isfinite().sum(-1)

    # The smallest and the largest number reach the most and the least likely token that is kept.
    first, verdict = draw_filtered(scores, filters, torch.zeros(len(params), 1), candidates)
    last, _ = draw_filtered(scores, filters, torch.full((len(params), 1), 1.0), candidates)
    decided = verdict == 0
    assert decided.sum() >= 6
    assert torch.equal(decided, (kept < candidates) | (candidates == VOCABULARY))
    assert torch.equal(first[decided], want.argmax(-1)[decided])
    least = want.masked_fill(want.isinf(), math.inf).argmin(-1)
    sharp = decided & (kept < 200)  # beyond, probabilities are below what float32 tells apart from the total
    assert torch.equal(last[sharp], least[sharp])


@pytest.mark.parametrize(
    ("draw", "rule"),
    [
        (draw_filtered, {"top_p": 0.9}),
        (draw_filtered, {"top_k": 40, "top_p": 0.8, "min_p": 0.02, "temperature": 0.7}),
        (draw_limited, {"top_k": 40, "top_p": 0.8, "min_p": 0.02, "temperature": 0.7}),
        (draw_few, {"top_k": 5, "temperature": 3.0}),
        (draw_plain, {}),
        (draw_plain, {"temperature": 0.5}),
    ],
)
def test_a_draw_has_the_distribution_of_transformers(draw: Draw, rule: dict[str, Any]) -> None:
    scores = logits(1, seed=3)[0]
    want = theirs(state(**rule), scores).softmax(-1)
    assert (reachable(draw, rule, scores) - want).abs().max() < 2 / GRID


@pytest.mark.parametrize("rule", [{}, {"top_p": 0.9}, {"top_k": 5, "temperature": 2.0}])
def test_drawn_tokens_pass_a_chi_square_test(rule: dict[str, Any]) -> None:
    scores = logits(1, seed=9, vocabulary=12) / 4
    one = state(prompt=(), **rule)
    draws = 4000
    rows = scores.expand(8, -1)
    batch = [state(prompt=(), **{**rule, "seed": seed}) for seed in range(8)]
    sampler = Sampler()
    counts = torch.zeros(12)
    for _ in range(draws // 8):
        counts += torch.bincount(torch.tensor(tokens(sampler.sample(rows, batch))), minlength=12)
    want = theirs(one, scores[0]).softmax(-1) * draws
    kept = want > 0
    assert counts[~kept].sum() == 0
    chi_square = ((counts - want)[kept] ** 2 / want[kept]).sum()
    assert chi_square < 31.3  # the 0.1 % point at 11 degrees of freedom; the seeds make it the same at every run


MIXED: list[dict[str, Any]] = [
    {"temperature": 0.0},
    {},
    {"top_p": 0.9},
    {"top_k": 3, "repetition_penalty": 1.2},
    {"temperature": 0.0, "frequency_penalty": 0.5},
    {"min_p": 0.1, "temperature": 3.0},
    {"temperature": 5.0, "top_p": 0.999},  # needs all tokens, not only the candidates
    {"logit_bias": {3: 5.0}, "temperature": 0.5},
]


def run(sampler: Sampler, states: Sequence[SamplingState], scores: Callable[[int], Tensor], steps: int) -> None:
    for step in range(steps):
        sampler.sample(scores(step), states)


def test_a_sequence_gets_the_same_tokens_alone_and_in_company() -> None:
    alone = []
    for row, rule in enumerate(MIXED):
        one = state(seed=row, **rule)
        run(Sampler(), [one], lambda step, row=row: logits(len(MIXED), seed=step)[row : row + 1], 12)  # type: ignore[misc]  # mypy infers no type of a lambda with a default
        alone.append(one.output)
    together = [state(seed=row, **rule) for row, rule in enumerate(MIXED)]
    run(Sampler(), together, lambda step: logits(len(MIXED), seed=step), 12)
    assert [one.output for one in together] == alone


def test_a_large_vocabulary_rounds_the_same_alone_and_in_company() -> None:
    """A sum over this many values may be split over threads when there is one row only."""
    scores = logits(8, vocabulary=150_000)
    rules = [MIXED[row % 3 + 1] for row in range(8)]
    together = [state(seed=row, **rule) for row, rule in enumerate(rules)]
    run(Sampler(), together, lambda _: scores, 6)
    for row, rule in enumerate(rules):
        one = state(seed=row, **rule)
        run(Sampler(), [one], lambda _, row=row: scores[row : row + 1], 6)  # type: ignore[misc]  # mypy infers no type of a lambda with a default
        assert one.output == together[row].output


def test_sequences_that_join_leave_and_move_change_nothing_for_the_others() -> None:
    want = state(seed=1, top_p=0.9, repetition_penalty=1.2, frequency_penalty=0.2)
    run(Sampler(), [want], lambda step: logits(1, seed=step), 9)
    one, sampler = state(seed=1, top_p=0.9, repetition_penalty=1.2, frequency_penalty=0.2), Sampler()
    for step in range(9):
        others = [state(seed=90 + step, **MIXED[(step + at) % len(MIXED)]) for at in range(step % 4)]
        row = logits(1, seed=step)
        sampler.sample(torch.cat((logits(len(others), seed=50 + step), row)), [*others, one])
    assert one.output == want.output


def test_a_batch_of_the_same_size_has_its_own_rules() -> None:
    scores, sampler = logits(1), Sampler()
    best = int(scores.argmax())
    assert tokens(sampler.sample(scores, [state(temperature=0.0)])) == [best]
    assert tokens(sampler.sample(scores, [state(temperature=0.0, logit_bias={best: -math.inf})])) != [best]


def test_another_seed_gives_another_answer() -> None:
    one, same, other = state(seed=1), state(seed=1), state(seed=2)
    run(Sampler(), [one, same, other], lambda step: logits(1, seed=step).expand(3, -1), 20)
    assert one.output == same.output != other.output


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 12_800])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_candidates_are_the_most_likely_tokens(vocabulary: int, dtype: torch.dtype) -> None:
    scores = logits(5, seed=1, vocabulary=vocabulary).to(dtype)
    tokens = drawing.most_likely(scores, 64)
    assert tokens.diff(dim=-1).gt(0).all()
    assert torch.equal(scores.gather(-1, tokens).sort(dim=-1, descending=True).values, scores.topk(64, dim=-1).values)


@pytest.mark.parametrize("vocabulary", [VOCABULARY, 12_800])
def test_greedy_takes_the_lowest_of_equal_tokens_in_every_float_type(vocabulary: int) -> None:
    scores = torch.zeros(2, vocabulary)
    scores[:, [400, 17, 600]] = 3.0
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert tokens(Sampler().sample(scores.to(dtype), [state(temperature=0.0), state(temperature=0.0)])) == [
            17,
            17,
        ]


def test_greedy_obeys_rules_and_ignores_filters() -> None:
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 5], scores[0, 6], scores[0, 7] = 9.0, 8.0, 7.0
    one = state(temperature=0.0, logit_bias={5: -math.inf, 7: 2.0}, top_k=1, top_p=0.1, min_p=0.9)
    assert tokens(Sampler().sample(scores, [one])) == [7]
    assert scores[0, 5] == 9.0, "the model's logits are left alone"


def test_stop_tokens_wait_for_the_minimum() -> None:
    scores = torch.zeros(1, VOCABULARY)
    scores[0, 2], scores[0, 5] = 9.0, 8.0
    one, sampler = state(temperature=0.0, min_tokens=3, stop=(2,)), Sampler()
    run(sampler, [one], lambda _: scores, 2)
    sampler = Sampler()  # also when the batch is built anew in between
    run(sampler, [one], lambda _: scores, 2)
    assert one.output == [5, 5, 5, 2]


@pytest.mark.parametrize("rule", [{"temperature": 0.0}, {}, {"top_p": 0.9}, {"top_k": 4}])
@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_a_row_without_usable_scores_fails_alone(rule: dict[str, Any], broken: float) -> None:
    scores = logits(3, seed=2)
    bad, good = scores.clone(), state(seed=5, **rule)
    bad[1] = broken
    outcome = Sampler().sample(bad, [state(seed=1, **rule), state(seed=2, **rule), good])
    assert type(outcome[1]) is GenerationFailed, "a retry may succeed"
    assert isinstance(outcome[0], TokenEvent)
    again = state(seed=5, **rule)
    assert tokens(Sampler().sample(scores[2:], [again])) == [token(outcome[2])]


def test_one_nan_among_good_scores_fails_the_row() -> None:
    for rule in ({"temperature": 0.0}, {}, {"top_p": 0.9}):
        scores = logits(1)
        scores[0, 500] = math.nan
        assert type(Sampler().sample(scores, [state(**rule)])[0]) is GenerationFailed  # type: ignore[arg-type]  # the rules have several types of values


def test_everything_forbidden_fails_and_counts_nothing() -> None:
    everything = dict.fromkeys(range(9), -math.inf)
    one = state(seed=1, repetition_penalty=1.1, logit_bias=everything)
    assert isinstance(Sampler().sample(logits(1, vocabulary=9), [one])[0], NoTokenLeft)
    assert one.output == []


def test_log_probabilities_are_the_models_own() -> None:
    scores = logits(4)
    states = [
        state(top_logprobs=3, temperature=0.0, logit_bias={11: 100.0}),
        state(),
        state(top_logprobs=0, temperature=0.2),
        state(top_logprobs=5, logit_bias={int(scores[3].argmax()): -math.inf}),
    ]
    outcomes = Sampler().sample(scores, states)
    own = scores.log_softmax(-1)
    for row, (outcome, one) in enumerate(zip(outcomes, states, strict=True)):
        assert isinstance(outcome, TokenEvent)
        wanted = one.params.top_logprobs
        if wanted is None:
            assert outcome.logprob is None
            continue
        assert outcome.logprob == pytest.approx(float(own[row, outcome.token]), abs=1e-5)
        best = own[row].topk(wanted)
        assert [it for it, _ in outcome.top_logprobs] == best.indices.tolist()
        assert [value for _, value in outcome.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-5)
    assert token(outcomes[0]) == 11


def replayed() -> list[SamplingState]:
    """Requests whose tokens change when a step is counted twice or not at all."""
    guided = SamplingParams(seed=5, temperature=0.0, top_logprobs=1)
    return [
        state(temperature=0.0, repetition_penalty=1.3, top_logprobs=2),
        state(seed=1, top_p=0.9, presence_penalty=0.4, frequency_penalty=0.3, top_logprobs=0),
        state(seed=2, temperature=5.0, top_p=0.999),
        state(seed=3, temperature=0.0, min_tokens=90, stop=range(0, VOCABULARY, 2)),
        SamplingState(guided, (1,), constraint=Table(lambda n: {n % 500, n % 500 + 1})),
    ]


@pytest.mark.parametrize("kept", [True, False], ids=["a known batch", "a new batch"])
def test_a_step_without_memory_for_any_of_its_operations_is_repeated_without_a_trace(kept: bool) -> None:
    sampler, states = Sampler(), replayed()
    got: list[list[TokenEvent | GenerationFailed]] = []
    reached = True
    while reached:  # the first step fails at its first operation, the second at its second, until a step has fewer
        scores = logits(len(states), seed=len(got))
        if not kept:
            sampler = Sampler()
        with Failing(len(got) + 1) as failing, suppress(torch.OutOfMemoryError):
            got.append(sampler.sample(scores, states))
        reached = failing.reached
        if reached:
            assert all(len(one.output) == len(got) for one in states)
            got.append(sampler.sample(scores, states))

    sampler, again = Sampler(), replayed()
    assert got == [sampler.sample(logits(len(again), seed=step), again) for step in range(len(got))]
    assert len(got) > states[3].params.min_tokens
    assert isinstance(states[4].constraint, Table)
    assert states[4].constraint.taken == states[4].output


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "temperature": st.sampled_from([0.0, 1e-9, 0.3, 1.0, 50.0]),
                "top_k": st.sampled_from([0, 1, 5, 30, 31]),
                "top_p": st.sampled_from([0.0, 1e-6, 0.5, 0.999999, 1.0]),
                "min_p": st.sampled_from([0.0, 0.01, 1.0]),
                "repetition_penalty": st.sampled_from([1.0, 1.5]),
            }
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(0, 1000),
)
def test_any_mix_gives_a_token_that_transformers_would_allow(rules: list[dict[str, Any]], seed: int) -> None:
    scores = logits(len(rules), seed=seed, vocabulary=30)
    scores[:, 7] = -math.inf
    states = [state(seed=seed + row, **rule) for row, rule in enumerate(rules)]
    for row, (it, one) in enumerate(zip(tokens(Sampler().sample(scores, states)), states, strict=True)):
        one.output.clear()
        allowed = theirs(one, scores[row])
        assert allowed[it].isfinite()
        if one.params.greedy:
            assert it == int(allowed.argmax())
