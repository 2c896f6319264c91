"""Attention block by block."""

import weakref
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from app.engine.attention.backends import partial
from app.engine.attention.backends.partial import Part, blocks, merge, weigh


@pytest.mark.parametrize(("scores", "numbers"), [(1, 1), (9, 3), (3, 9), (1000, 1), (1, 1000)])
def test_blocks_cover_every_page_once_and_keep_both_bounds(
    scores: int, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "BLOCK_SCORES", 400)
    monkeypatch.setattr(partial, "BLOCK_NUMBERS", 300)
    covered: list[int] = []
    for first, last in blocks(50, 16, scores=scores, numbers=numbers):
        tokens = (last - first) * 16
        assert last - first == 1 or (tokens * scores <= 400 and tokens * numbers <= 300)
        covered += range(first, last)
    assert covered == list(range(50))


def test_merged_parts_are_the_attention_over_all_tokens() -> None:
    scores, values = torch.randn(1, 2, 5, 90) * 8, torch.randn(1, 2, 90, 4)
    expected = scores.softmax(dim=-1) @ values
    parts = (_part(scores[..., i : i + 20], values[:, :, i : i + 20]) for i in range(0, 90, 20))
    torch.testing.assert_close(merge(parts), expected)


def test_a_row_that_sees_nothing_in_a_part_gets_nothing_from_it() -> None:
    scores, values = torch.randn(1, 1, 3, 8), torch.randn(1, 1, 8, 4)
    weights, lse = weigh(scores[..., :4].clone(), torch.ones(3, 4, dtype=torch.bool))
    merged = merge([_part(scores, values), (weights @ values[:, :, :4], lse)])
    torch.testing.assert_close(merged, scores.softmax(dim=-1) @ values)


def test_memory_does_not_grow_with_the_number_of_parts() -> None:
    made: list[weakref.ref[Tensor]] = []
    most = 0

    def parts() -> Iterator[Part]:
        nonlocal most
        for _ in range(20):
            most = max(most, sum(part() is not None for part in made))
            output = torch.ones(1, 1, 3, 4)
            made.append(weakref.ref(output))
            yield output, torch.zeros(1, 1, 3)

    torch.testing.assert_close(merge(parts()), torch.ones(1, 1, 3, 4))
    assert most <= 2


def _part(scores: Tensor, values: Tensor) -> Part:
    weights, lse = weigh(scores.clone(), None)
    return weights @ values, lse
