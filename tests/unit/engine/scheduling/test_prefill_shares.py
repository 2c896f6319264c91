"""The bounds of prompt tokens in a step, whatever the others have pending."""

import math

import pytest

from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.prefill_shares import PrefillShares


def bound(tokens: int, tenants: int, budget: int) -> int:
    """Of the module's own words."""
    served = min(tenants, budget // 2)
    return math.ceil(tokens / (budget // served // 2)) * math.ceil(tenants / served)


def compute(shares: PrefillShares, sequences: list[TokenSequence], budget: int) -> None:
    given = dict(shares.share_out([each for each in sequences if each.pending], budget, {}))
    assert sum(given.values()) <= budget
    for sequence, length in given.items():
        assert 0 < length <= sequence.pending
        sequence.computed += length
    shares.advance()


@pytest.mark.parametrize(("tenants", "budget"), [(2, 16), (8, 16), (9, 16), (17, 16), (33, 16), (40, 2), (7, 48)])
def test_a_short_prompt_ends_in_time_however_many_keys_have_long_ones(tenants: int, budget: int) -> None:
    sequences = [TokenSequence(str(n), [1] * 100_000, 1, str(n)) for n in range(tenants - 1)]
    short = TokenSequence("short", [1] * 20, 1, "short")
    shares, steps = PrefillShares(), 0
    compute(shares, sequences, budget)
    sequences.append(short)
    while short.pending and steps < 10_000:
        compute(shares, sequences, budget)
        steps += 1
    assert steps <= bound(20, tenants, budget)


def test_keys_that_keep_coming_do_not_take_the_turn_of_one_that_waits() -> None:
    waiting = TokenSequence("waiting", [1] * 20, 1, "waiting")
    shares = PrefillShares()
    sequences = [TokenSequence(f"long {n}", [1] * 100_000, 1, f"long {n}") for n in range(16)]
    sequences.append(waiting)
    for number in range(bound(20, 16 + 1 + 8, 16)):
        sequences = [each for each in sequences if each.pending]
        sequences += [TokenSequence(f"{number} {n}", [1], 1, f"{number} {n}") for n in range(4)]
        compute(shares, sequences, 16)
    assert not waiting.pending


def test_a_step_that_failed_takes_nobodys_turn() -> None:
    sequences = [TokenSequence(str(n), [1] * 100, 1, str(n)) for n in range(20)]
    shares = PrefillShares()
    assert list(shares.share_out(sequences, 16, {})) == list(shares.share_out(sequences, 16, {}))


def test_a_long_prompt_ends_although_the_short_ones_of_its_key_fill_every_step() -> None:
    """Half of each step is its own: more shorter prompts arrive than a step computes."""
    long, sequences, steps = TokenSequence("long", [1] * 640, 1), list[TokenSequence](), 0
    sequences.append(long)
    shares = PrefillShares()
    while long.pending and steps < 100:
        sequences = [each for each in sequences if each.pending]
        sequences += [TokenSequence(f"{steps} {n}", [1] * 40, 1) for n in range(2)]
        compute(shares, sequences, 64)
        steps += 1
    assert steps == 640 // (64 // 2)
