"""The fused norm gives what the stock norm gives."""

import pytest
import torch
from torch import nn

from app.engine.layers.norms import FusedNorm, fuse_norms
from tests.support.tiny import tiny_deepseek, tiny_llama


@pytest.mark.parametrize("make", [tiny_deepseek, tiny_llama])
def test_a_model_gives_the_same_logits(make: type) -> None:
    ids = torch.arange(5, 25).unsqueeze(0)
    stock, fused = make(), make()
    assert fuse_norms(fused) == sum("RMSNorm" in type(module).__name__ for module in stock.modules())
    with torch.inference_mode():
        torch.testing.assert_close(fused(ids).logits, stock(ids).logits, atol=2e-5, rtol=1e-4)


def test_bfloat16_differs_by_rounding_alone() -> None:
    stock = tiny_llama().model.norm
    stock.weight.data.uniform_(0.5, 2.0)
    hidden = torch.randn(3, 96, generator=torch.Generator().manual_seed(0)) * 30
    exact = stock(hidden)
    model = nn.ModuleList([stock.bfloat16()])
    fuse_norms(model)
    assert type(model[0]) is FusedNorm
    error = (model[0](hidden.bfloat16()).float() - exact).norm() / exact.norm()
    assert error < 0.01


def test_other_norms_are_left_alone() -> None:
    model = nn.Sequential(nn.LayerNorm(4), nn.RMSNorm(4))
    assert fuse_norms(model) == 0
