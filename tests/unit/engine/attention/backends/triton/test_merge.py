"""The kernel merges parts as one softmax over all of them: interpreted on a CPU, compiled on a GPU."""

import pytest
import torch

from app.engine.attention.backends.triton.merge import merge
from tests.support.kernels import DEVICE, random

NOTHING = float("-inf")
"""The logarithm of the sum of a part that saw no token."""


def exact(parts: torch.Tensor, sums: torch.Tensor) -> torch.Tensor:
    weights = sums.double().softmax(-1).nan_to_num(0.0)
    seen = (sums != NOTHING)[..., None]
    return (parts.double().where(seen, 0.0) * weights[..., None]).sum(2)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float16, 1e-3)], ids=["32 bits", "16 bits"]
)
@pytest.mark.parametrize(("splits", "width"), [(1, 16), (4, 72)], ids=["one part", "a width that fills no tile"])
def test_parts_count_by_their_sums(splits: int, width: int, dtype: torch.dtype, tolerance: float) -> None:
    parts, sums = random(2, 3, splits, width), random(2, 3, splits, seed=1) * 20
    got = merge(parts, sums, torch.empty(2, 3, width, dtype=dtype, device=DEVICE))
    torch.testing.assert_close(got.double(), exact(parts, sums), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_parts_without_tokens_are_not_read_and_rows_without_any_are_zero(dtype: torch.dtype) -> None:
    parts, sums = random(3, 1, 4, 16), random(3, 1, 4, seed=1)
    sums[0, :, 1:] = sums[1] = NOTHING
    parts[0, :, 1:] = parts[1] = float("nan")
    got = merge(parts, sums, torch.empty(3, 1, 16, dtype=dtype, device=DEVICE))
    torch.testing.assert_close(got[0, 0], parts[0, 0, 0].to(dtype))
    assert not got[1].any()
    torch.testing.assert_close(got[2].double(), exact(parts, sums)[2], atol=1e-3, rtol=1e-3)


def test_the_target_may_be_a_view_of_another_layout() -> None:
    parts, sums = random(3, 2, 2, 16), random(3, 2, 2, seed=1)
    by_head = torch.empty(2, 3, 16, device=DEVICE)
    merge(parts, sums, by_head.transpose(0, 1))
    torch.testing.assert_close(by_head.transpose(0, 1).double(), exact(parts, sums), atol=1e-6, rtol=1e-6)
