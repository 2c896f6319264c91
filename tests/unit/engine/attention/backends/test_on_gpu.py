"""Which attention a GPU gets: Triton's where it runs and is right, plain torch everywhere else."""

import logging
from typing import Any

import pytest
import torch

from app.engine.attention.backends import on_gpu
from app.engine.attention.backends.on_gpu import triton_backend
from app.engine.attention.backends.triton import head_rotation, heads, latents, rotation, splits
from app.engine.kv.shape import HeadsShape, LatentShape

CPU = torch.device("cpu")
ROWS, PROGRAMS = on_gpu.ROWS, splits.PROGRAMS
SHAPES: list[HeadsShape | LatentShape] = [LatentShape(32, 16), HeadsShape(2, 16)]

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="compiled kernels take no CPU tensors")


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial that the interpreter ends in seconds."""
    monkeypatch.setattr(splits, "PROGRAMS", 8)
    monkeypatch.setattr(on_gpu, "ROWS", (4,))


def choose(shape: HeadsShape | LatentShape) -> Any:
    return triton_backend(shape, 32, torch.float32, 4, [CPU])


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_that_agree_with_torch_are_used(shape: HeadsShape | LatentShape) -> None:
    backend = choose(shape)
    assert backend.name.startswith("Triton")
    assert backend.reads_tables


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_that_are_wrong_are_not(
    shape: HeadsShape | LatentShape, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for kernels in (heads, latents):
        right = kernels.attend

        def wrong(*inputs: Any, right: Any = right, **more: Any) -> torch.Tensor:
            return right(*inputs, **more) + 0.01  # type: ignore[no-any-return]  # a tensor

        monkeypatch.setattr(kernels, "attend", wrong)
    with caplog.at_level(logging.ERROR):
        assert choose(shape) is None
    assert "wrong" in caplog.text


@pytest.mark.parametrize("wrong", ["queries", "slots"])
@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_that_rotate_or_store_wrong_are_not(
    shape: HeadsShape | LatentShape, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kernels in (head_rotation, rotation):
        right = kernels.rotate_and_store

        def spoilt(query: torch.Tensor, *more: Any, slots: torch.Tensor, right: Any = right, **named: Any) -> None:
            right(query, *more, slots=slots.flip(0) if wrong == "slots" else slots, **named)
            if wrong == "queries":
                query[:, 0] *= 1.01

        monkeypatch.setattr(kernels, "rotate_and_store", spoilt)
    assert choose(shape) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_kernels_that_do_not_run_are_not(
    shape: HeadsShape | LatentShape, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def out_of_resources(*_: Any, **__: Any) -> torch.Tensor:
        raise ValueError("out of resource: shared memory, Required: 106504, Hardware limit: 101376")

    for kernels in (heads, latents):
        monkeypatch.setattr(kernels, "attend", out_of_resources)
    assert choose(shape) is None
    assert "Hardware limit" in caplog.records[0].__dict__["reason"]


@pytest.mark.parametrize("programs", [1, 2, 3, 8])
def test_every_number_of_parts_is_tried(programs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a step with any number of rows, each with this many programs: one for a key head, or for 16 latent heads."""
    monkeypatch.setattr(splits, "PROGRAMS", PROGRAMS)
    tried = {splits.splits_for(rows * programs) for rows in ROWS}
    assert tried == {splits.splits_for(rows * programs) for rows in range(1, 1025)}


def test_without_triton_plain_torch_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_gpu, "find_spec", lambda _name: None)
    assert choose(SHAPES[0]) is None
