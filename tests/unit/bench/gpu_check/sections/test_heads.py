"""The check of Llama's kernels, in small shapes and the interpreter: what is wrong fails."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.attention.backends.triton import head_rotation, splits
from app.engine.attention.backends.triton import heads as kernels
from app.engine.layers import triton_silu
from bench.gpu_check.bench import Bench
from bench.gpu_check.sections import heads

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")

BENCH = Bench((), None, "", Path(), 0.0)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PROGRAMS", 4)
    monkeypatch.setattr(heads, "MODELS", {"small": (4, 2, 16)})
    monkeypatch.setattr(heads, "CONTEXTS", ((1, 16), (3, 70)))
    monkeypatch.setattr(heads, "TOKENS", (1, 5))
    monkeypatch.setattr(heads, "WIDTHS", (17,))


def failed() -> list[str]:
    return [row.name for row in heads.compared(BENCH) if not row.ok]


def test_what_is_right_passes() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("module", "name", "row"),
    [
        (kernels, "attend", "attention by heads, small"),
        (triton_silu, "silu_product", "gated silu"),
    ],
)
def test_a_kernel_that_is_wrong_by_a_thousandth_fails(
    module: Any, name: str, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *inputs, **more: right(*inputs, **more) * 1.001)
    assert failed() == [row]


def test_a_kernel_that_reads_behind_a_length_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right: Any = kernels.attend

    def longer(*inputs: Any, **more: Any) -> Any:
        *others, lengths = inputs
        return right(*others, lengths + 1, **more)

    monkeypatch.setattr(kernels, "attend", longer)
    assert failed() == ["attention by heads, small"]


@pytest.mark.parametrize("wrong", ["queries", "slots", "another page"])
def test_a_rotation_that_is_wrong_fails(wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = head_rotation.rotate_and_store

    def spoilt(states: torch.Tensor, *, slots: torch.Tensor, keys: torch.Tensor, **more: Any) -> None:
        right(states, slots=slots.flip(0) if wrong == "slots" else slots, keys=keys, **more)
        if wrong == "queries":
            states[:, 0] *= 1.001
        elif wrong == "another page":
            keys.nan_to_num_(0.0)

    monkeypatch.setattr(head_rotation, "rotate_and_store", spoilt)
    assert failed() == ["rotation of heads into pages, small"]
