"""The kernel adds and normalises as torch does: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from app.engine.layers.triton_norms import add_norm
from tests.support.kernels import DEVICE, random


@pytest.mark.parametrize("shape", [(5, 128), (5, 1, 128), (3, 8, 128), (2, 3, 72)], ids=str)
def test_the_sum_of_the_stream_and_its_parts_and_the_norm_of_it(shape: tuple[int, ...]) -> None:
    tokens, *_, width = shape
    residual, parts, weight = random(tokens, width), random(*shape, seed=1), random(width, seed=2)
    total, normal = add_norm(residual, parts, weight, 1e-6)
    expected = residual + parts.view(tokens, -1, width).sum(1)
    torch.testing.assert_close(total, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(normal, F.rms_norm(expected, (width,), weight, 1e-6), atol=1e-5, rtol=1e-5)


def test_a_stream_in_16_bits_is_rounded_once() -> None:
    """Parts that the stream's type cannot tell from zero one by one still count together."""
    residual = torch.full((1, 64), 2048.0, dtype=torch.float16, device=DEVICE)  # the next number is 2050
    parts = torch.full((1, 4, 64), 0.75, device=DEVICE)
    total, normal = add_norm(residual, parts, torch.ones(64, device=DEVICE).half(), 0.0)
    assert torch.equal(total, torch.full_like(residual, 2052.0))
    assert torch.equal(normal, torch.ones_like(residual))


@pytest.mark.parametrize("kind", [DeepseekV2RMSNorm, LlamaRMSNorm])
def test_the_norm_is_transformers_own_of_the_stream_that_is_kept(kind: Any) -> None:
    """Of the rounded sum, which the next layers see. The weights are powers of two: transformers rounds before it
    multiplies with them and we only afterwards, which for these is the same. Not in bfloat16, which the interpreter
    cuts off and does not round."""
    width, dtype = 512, torch.float16
    norm = kind(width, eps=1e-6).to(DEVICE, dtype)
    norm.weight.data.copy_(torch.exp2(torch.randint(-2, 3, (width,), generator=torch.Generator().manual_seed(3))))
    residual, parts = random(4, width).to(dtype), random(4, 2, width, seed=1)
    total, normal = add_norm(residual, parts, norm.weight.data, 1e-6)
    assert torch.equal(total, (residual.float() + parts[:, 0] + parts[:, 1]).to(dtype))
    differ = int((normal != norm(total)).sum())
    assert differ <= total.numel() // 200, "those that lie between two numbers, after sums in another order"
    torch.testing.assert_close(normal, norm(total), atol=0, rtol=2 * torch.finfo(dtype).eps)


def test_with_any_weight_it_is_nearer_to_exact_numbers_than_transformers() -> None:
    """It rounds once, behind the weight."""
    residual, parts, weight = random(4, 256).half(), random(4, 256, seed=1), random(256, seed=2).half()
    stock = LlamaRMSNorm(256, eps=1e-6).to(DEVICE, torch.float16)
    stock.weight.data.copy_(weight)
    total, normal = add_norm(residual, parts, weight, 1e-6)
    exact = F.rms_norm(total.double(), (256,), weight.double(), 1e-6)
    assert (normal - exact).norm() < 0.9 * (stock(total) - exact).norm()


def test_a_broken_token_disturbs_no_other() -> None:
    residual, parts = random(3, 64), random(3, 2, 64, seed=1)
    clean = add_norm(residual, parts, torch.ones(64, device=DEVICE), 1e-6)
    parts[1, 0, 5] = float("nan")
    for got, expected in zip(add_norm(residual, parts, torch.ones(64, device=DEVICE), 1e-6), clean, strict=True):
        assert torch.equal(got[[0, 2]], expected[[0, 2]])
        assert got[1].isnan().any()
