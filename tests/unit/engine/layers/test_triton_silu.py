"""The kernel gates as torch does: interpreted on a CPU, compiled on a GPU."""

import pytest
import torch
import torch.nn.functional as F

from app.engine.layers.triton_silu import silu_product
from tests.support.kernels import random


def expected(joined: torch.Tensor) -> torch.Tensor:
    gate, up = joined.float().chunk(2, dim=1)
    return (F.silu(gate) * up).to(joined.dtype)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)], ids=["32 bits", "16 bits"]
)
@pytest.mark.parametrize("shape", [(1, 1536), (5, 64), (3, 1), (2, 1037)], ids=str)
def test_gates_times_what_they_let_through(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    tokens, width = shape
    joined = (random(tokens, 2 * width) * 8).to(dtype)
    torch.testing.assert_close(silu_product(joined), expected(joined), atol=tolerance, rtol=tolerance)


@pytest.mark.filterwarnings("ignore:overflow encountered in exp")  # numpy's, of the interpreter: infinity is right
def test_a_closed_gate_lets_nothing_through_however_far_it_is() -> None:
    joined = random(2, 64)
    joined[:, :32] = -3e38
    assert torch.equal(silu_product(joined), torch.zeros_like(joined[:, :32]))


def test_a_broken_token_disturbs_no_other() -> None:
    joined = random(3, 64)
    clean = silu_product(joined)
    joined[1, 5] = float("nan")
    got = silu_product(joined)
    assert torch.equal(got[[0, 2]], clean[[0, 2]])
    assert got[1].isnan().any()
