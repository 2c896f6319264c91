"""The check of the kernels of attention and experts, in small shapes and the interpreter: what is wrong fails."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.attention.backends.triton import latents, splits
from app.engine.layers import triton_experts, triton_tiles
from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row
from bench.gpu_check.sections import kernels

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    small: dict[str, Any] = {"HEADS": 2, "RANK": 16, "ROPE": 16, "CONTEXTS": ((3, 70),), "CALLS": 1}
    small |= {"EXPERTS": 4, "CHOSEN": 2, "WIDTH": 32, "INNER": 16, "TOKENS": (2,), "UNEVEN": (1, 4, 12)}
    for name, value in small.items():
        monkeypatch.setattr(kernels, name, value)
    monkeypatch.setattr(splits, "PROGRAMS", 4)
    monkeypatch.setattr(triton_tiles, "MOST_TOKENS", 8)
    monkeypatch.setattr(kernels, "_milliseconds", lambda _bench, run: run() is None or 1.0)


def rows() -> list[Row]:
    return list(kernels.compared(Bench((), None, "", Path(), 0.0, ceiling_bytes=1.0)))


def test_what_is_right_passes() -> None:
    findings = rows()
    assert [row.name for row in findings if not row.ok] == []
    assert [row.name for row in findings][-2:] == ["experts, 1 without a token", "experts, all tokens to one"]


@pytest.mark.parametrize(
    ("module", "name", "wrong"),
    [(latents, "attend", "latent attention"), (triton_experts, "experts_forward", "experts")],
)
def test_a_kernel_that_is_wrong_by_a_thousandth_fails(
    module: Any, name: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *inputs, **more: right(*inputs, **more) * 1.001)
    for row in rows():
        assert bool(row.ok) is not row.name.startswith(wrong), row
