"""The check of DeepSeek's small kernels, in small shapes and the interpreter: what is wrong fails."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.attention.backends.triton import rotation
from app.engine.layers import triton_norms, triton_router, triton_sort
from bench.gpu_check.bench import Bench
from bench.gpu_check.sections import operations

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")

BENCH = Bench((), None, "", Path(), 0.0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {"TOKENS": (5,), "HEADS": 2, "NOPE": 8, "RANK": 16, "ROPE": 8, "WIDTH": 40, "PARTS": 3}
    for name, value in (small | {"EXPERTS": 4, "CHOSEN": 2, "BLOCKS": (16,)}).items():
        monkeypatch.setattr(operations, name, value)


def failed() -> list[str]:
    return [row.name for row in operations.compared(BENCH) if not row.ok]


def test_what_is_right_passes() -> None:
    assert failed() == []


def wrong_rotation(right: Any) -> Any:
    def spoilt(query: torch.Tensor, *more: Any, **named: Any) -> None:
        right(query, *more, **named)
        query *= 1.001

    return spoilt


def wrong_norm(right: Any) -> Any:
    return lambda *inputs: (right(*inputs)[0], right(*inputs)[1] * 1.001)


def wrong_share(right: Any) -> Any:
    return lambda *inputs: (right(*inputs)[0], right(*inputs)[1] * 1.001)


def wrong_expert(right: Any) -> Any:
    return lambda *inputs: (right(*inputs)[0][:, [0, 0]], right(*inputs)[1])


def wrong_pair(right: Any) -> Any:
    return lambda *inputs: (right(*inputs)[0].clamp(max=1), right(*inputs)[1])


@pytest.mark.parametrize(
    ("module", "name", "spoil", "row"),
    [
        (rotation, "rotate_and_store", wrong_rotation, "rotation and norm into pages"),
        (triton_norms, "add_norm", wrong_norm, "norm with residual"),
        (triton_router, "route", wrong_share, "router"),
        (triton_router, "route", wrong_expert, "router"),
        (triton_sort, "sort_pairs", wrong_pair, "choices sorted by expert"),
    ],
    ids=["rotation", "norm", "a share", "an expert twice", "a pair twice"],
)
def test_a_kernel_that_is_wrong_fails(
    module: Any, name: str, spoil: Any, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, name, spoil(getattr(module, name)))
    assert failed() == [row]
