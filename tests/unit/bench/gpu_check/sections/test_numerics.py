"""What the loaded model computes wrong fails the check."""

from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.mla import AbsorbedAttention
from app.engine.sampling import sampler
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import config_for
from bench.gpu_check.sections import numerics


def rows() -> dict[str, bool | None]:
    bench = Bench((), config_for(0)[0], "", Path(), 0.0)
    return {row.name: row.ok for row in numerics.numerics(bench)}


def test_what_is_right_passes() -> None:
    assert set(rows().values()) == {True}


@pytest.mark.parametrize(
    ("owner", "part", "wrong"),
    [
        (LatentsBackend, "decode", "1 x 16"),
        (LatentsBackend, "chunk", "8 x 100"),
        (AbsorbedAttention, "_expanded_chunk", "64 x 129"),
    ],
    ids=["decode steps", "short chunks", "long chunks"],
)
def test_attention_that_is_wrong_by_a_thousandth_fails(
    owner: Any, part: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(owner, part)

    def spoilt(*inputs: Any) -> Any:
        return right(*inputs) * 1.001

    monkeypatch.setattr(owner, part, spoilt)
    assert {name for name, ok in rows().items() if not ok} == {f"attention over pages, {wrong}"}


def test_a_sampler_that_draws_others_than_the_cpu_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the two samplers is the device's."""
    right, calls = sampler.Sampler.sample, []

    def spoilt(own: Any, scores: torch.Tensor, states: Any) -> Any:
        calls.append(scores)
        return right(own, scores.roll(1, dims=-1) if len(calls) % 2 else scores, states)

    monkeypatch.setattr(sampler.Sampler, "sample", spoilt)
    assert rows()["draws that are the CPU's"] is False
