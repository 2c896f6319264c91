"""DTYPE=auto takes what this CPU computes faster; a name is taken at its word."""

import pytest
import torch

from app.contract.options import DType
from app.engine.loading import dtype as precision
from app.engine.loading.dtype import choose_dtype
from app.models.placement import Gpu


@pytest.mark.parametrize(("slow", "fast"), [("float32", "bfloat16"), ("bfloat16", "float32")])
def test_auto_takes_the_faster(slow: str, fast: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "can_pack", lambda _dtype: True)
    monkeypatch.setattr(precision, "_milliseconds", lambda dtype, _rows: 2.0 if str(dtype).endswith(slow) else 1.0)
    assert choose_dtype(DType.AUTO) == getattr(torch, fast)


def test_float32_where_nothing_else_can_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "can_pack", lambda dtype: dtype == torch.float32)
    assert choose_dtype(DType.AUTO) == torch.float32


def test_every_type_is_measured_with_its_own_numbers() -> None:
    assert choose_dtype(DType.AUTO) in {torch.float32, torch.bfloat16}


@pytest.mark.parametrize("name", [DType.FLOAT32, DType.BFLOAT16, DType.FLOAT16])
def test_a_named_type_is_taken(name: DType) -> None:
    assert choose_dtype(name) == getattr(torch, name.value)


@pytest.mark.parametrize(
    ("capabilities", "name"),
    [
        ([(8, 6), (8, 6)], "bfloat16"),
        ([(9, 0)], "bfloat16"),
        ([(7, 5)], "float16"),  # torch.cuda.is_bf16_supported() says yes there, and emulates it
        ([(8, 6), (7, 5)], "float16"),
        ([(8, 0), None], "float16"),
    ],
)
def test_on_gpus_the_weakest_decides(capabilities: list[tuple[int, int] | None], name: str) -> None:
    gpus = [Gpu(index, "test", 1, 1, capability) for index, capability in enumerate(capabilities)]
    assert choose_dtype(DType.AUTO, gpus) == getattr(torch, name)
    assert choose_dtype(DType.FLOAT32, gpus) == torch.float32
