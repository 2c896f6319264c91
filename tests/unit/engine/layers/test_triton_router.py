"""The kernel chooses as transformers' router does: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch

from app.engine.layers.triton_router import route
from tests.support.kernels import DEVICE, random
from tests.support.tiny import tiny_deepseek


def router(**changes: Any) -> Any:
    gate = tiny_deepseek(num_hidden_layers=2, **changes).model.layers[1].mlp.gate.to(DEVICE)
    gate.weight.data.copy_(random(*gate.weight.shape, seed=4) * 0.2)
    return gate


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"routed_scaling_factor": 16.0},
        {"hidden_size": 200, "n_routed_experts": 9, "num_experts_per_tok": 3},
        {"n_routed_experts": 64},
    ],
    ids=["small", "scaled", "odd widths", "as many experts as Lite"],
)
def test_the_same_experts_with_the_same_shares(changes: dict[str, Any]) -> None:
    gate = router(**changes)
    hidden = random(7, gate.hidden_dim)
    chosen, shares = route(hidden, gate.weight, gate.top_k, gate.routed_scaling_factor)
    with torch.inference_mode():
        _, expected_shares, expected = gate(hidden)
    order, expected_order = chosen.argsort(dim=1), expected.argsort(dim=1)
    assert torch.equal(chosen.gather(1, order), expected.gather(1, expected_order))
    expected_shares = expected_shares.gather(1, expected_order)
    torch.testing.assert_close(shares.gather(1, order), expected_shares, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf")])
def test_a_broken_token_chooses_experts_that_exist_and_none_twice(broken: float) -> None:
    """The experts' kernels would write a pair that there is not."""
    gate = router(n_routed_experts=9)
    hidden = random(3, gate.hidden_dim)
    clean, _ = route(hidden, gate.weight, 6, 1.0)
    hidden[1, 3] = broken
    chosen, shares = route(hidden, gate.weight, 6, 1.0)
    assert torch.equal(chosen[[0, 2]], clean[[0, 2]])
    assert len(set(chosen[1].tolist())) == 6
    assert set(chosen[1].tolist()) <= set(range(9))
    assert (shares[1] >= 0).all(), "the mark of an expert that is taken, or that there is not, is no share"


@pytest.mark.parametrize("experts", [9, 16, 64], ids=["with padding", "small", "as many experts as Lite"])
def test_a_broken_expert_is_never_a_tokens_share(experts: int) -> None:
    """A weight that is not a number makes every probability one. The maximum of these is the CPU's or the card's own
    choice, so none may be among the shares."""
    gate = router(n_routed_experts=experts)
    gate.weight.data[2, 0] = float("nan")
    chosen, shares = route(random(3, gate.hidden_dim), gate.weight, 6, 1.0)
    assert (shares == 0).all()
    for row in chosen.tolist():
        assert len(set(row)) == 6
        assert set(row) <= set(range(experts))


@pytest.mark.parametrize("experts", [9, 64])
def test_16_bits_choose_as_exact_numbers_do(experts: int) -> None:
    """In sum the chosen are as likely as the most likely: two that nearly tie may change places."""
    gate = router(n_routed_experts=experts)
    hidden, weight = random(7, gate.hidden_dim).half(), gate.weight.half()
    chosen, shares = route(hidden, weight, 6, 2.0)
    exact = (hidden.double() @ weight.double().T).softmax(-1) * 2.0
    torch.testing.assert_close(shares.double(), exact.topk(6).values, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(exact.gather(1, chosen), shares.double(), atol=1e-6, rtol=1e-4)
