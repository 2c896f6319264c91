"""Every pair is listed once, in a block of its expert: interpreted on a CPU, compiled on a GPU."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.layers.triton_sort import blocks_of, sort_pairs
from tests.support.kernels import DEVICE

ROWS = 64


def check(chosen: torch.Tensor, experts: int) -> None:
    order, owners = sort_pairs(chosen.to(DEVICE), experts, ROWS)
    flat = chosen.flatten().tolist()
    assert len(owners) == blocks_of(len(flat), experts, ROWS)
    listed = []
    for block, owner in enumerate(owners.tolist()):
        rows = order[block * ROWS : (block + 1) * ROWS].tolist() if owner >= 0 else []
        pairs = [pair for pair in rows if pair >= 0]
        assert rows == pairs + [-1] * (len(rows) - len(pairs)), "none come after pairs"
        assert all(flat[pair] == owner for pair in pairs)
        listed += pairs
    assert sorted(listed) == list(range(len(flat)))


@pytest.mark.parametrize("tokens", [1, 65, 200, 400])
def test_random_choices(tokens: int) -> None:
    chosen = torch.rand(tokens, 16, generator=torch.Generator().manual_seed(tokens)).topk(6).indices
    check(chosen, 16)


def test_all_tokens_choose_the_same_experts() -> None:
    check(torch.tensor([[15, 0, 7]]).repeat(3 * ROWS, 1), 16)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 9), st.data())
def test_any_choice(experts: int, data: st.DataObject) -> None:
    flat = data.draw(st.lists(st.integers(0, experts - 1), min_size=1, max_size=300))
    check(torch.tensor(flat)[:, None], experts)
