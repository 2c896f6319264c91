"""The experts' kernels give what transformers gives: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch

from app.engine.layers import triton_experts, triton_tiles
from app.engine.layers.triton_experts import experts_forward, experts_parts
from app.engine.layers.triton_tiles import rows_of
from tests.support.kernels import DEVICE, random
from tests.support.tiny import tiny_deepseek


def block(**changes: Any) -> Any:
    experts = tiny_deepseek(num_hidden_layers=2, **changes).model.layers[1].mlp.experts
    experts.config._experts_implementation = "eager"
    return experts.to(DEVICE)


def compare(experts: Any, chosen: torch.Tensor) -> None:
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(len(chosen), experts.hidden_dim, generator=random).to(DEVICE)
    shares = torch.rand(chosen.shape, generator=random).to(DEVICE)
    chosen = chosen.to(DEVICE)
    with torch.inference_mode():
        got, expected = experts_forward(experts, hidden, chosen, shares), experts(hidden, chosen, shares)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("tokens", [1, 2, 3, 15, 16, 17, 33, 70, 130])
def test_experts_chosen_at_random(tokens: int) -> None:
    chosen = torch.rand(tokens, 16, generator=torch.Generator().manual_seed(tokens)).topk(6).indices
    compare(block(), chosen)


def test_all_tokens_choose_the_same_experts_and_the_others_are_idle() -> None:
    compare(block(), torch.tensor([[15, 0, 7, 3, 4, 9]]).repeat(20, 1))


def test_widths_that_fill_no_tile() -> None:
    chosen = torch.rand(5, 9, generator=torch.Generator().manual_seed(1)).topk(3).indices
    compare(block(hidden_size=72, moe_intermediate_size=40, n_routed_experts=9, num_experts_per_tok=3), chosen)


def test_large_tiles_of_cards_with_room_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_experts, "shared_memory", lambda _device: 228 * 1024)
    chosen = torch.randint(3, (300, 1), generator=torch.Generator().manual_seed(1))
    assert rows_of(300, 1, 3, 228 * 1024) == 128
    compare(block(n_routed_experts=3, num_experts_per_tok=1), chosen)


def test_pairs_of_the_same_expert_are_computed_once() -> None:
    """With two tokens there is a program for each pair: the first of an expert's pairs works for both."""
    compare(block(), torch.tensor([[15, 0, 7, 3, 4, 9], [9, 15, 1, 2, 0, 5]]))


@pytest.mark.parametrize(("tokens", "width"), [(1, 32), (5, 40), (20, 32)], ids=["pairs", "experts", "sorted"])
def test_16_bits_are_near_to_exact_numbers(tokens: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In every form. Measured: at most 3.9e-4 of the norm."""
    monkeypatch.setattr(triton_tiles, "MOST_TOKENS", 16)
    experts = block(hidden_size=width, moe_intermediate_size=24, n_routed_experts=5, num_experts_per_tok=2).half()
    chosen = torch.rand(tokens, 5, generator=torch.Generator().manual_seed(tokens)).topk(2).indices.to(DEVICE)
    hidden, shares = random(tokens, width).half(), random(tokens, 2, seed=1).abs()
    with torch.inference_mode():
        got = experts_forward(experts, hidden, chosen, shares)
        expected = experts.double()(hidden.double(), chosen, shares.double())
    assert (got - expected).norm() < 2e-3 * expected.norm()


@pytest.mark.parametrize("tokens", [1, 2, 5, 40, 90])
def test_shared_experts_are_added_for_every_token(tokens: int) -> None:
    mlp = tiny_deepseek(num_hidden_layers=2).model.layers[1].mlp.to(DEVICE)
    mlp.experts.config._experts_implementation = "eager"
    random = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 128, generator=random).to(DEVICE)
    with torch.inference_mode():
        _, shares, chosen = mlp.gate(hidden)
        shared = mlp.shared_experts
        weights = shared.gate_proj.weight, shared.up_proj.weight, shared.down_proj.weight
        parts = experts_parts(mlp.experts, hidden, chosen, shares, weights)
        expected = mlp(hidden[None])[0]
    assert parts.shape == (tokens, 6 + 2, 128)
    torch.testing.assert_close(parts.sum(1), expected, atol=2e-5, rtol=1e-4)
