"""What the loaded model computes wrong fails the check."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.mla import AbsorbedAttention, absorb
from app.engine.execution.decoder import Decoder
from app.engine.sampling import sampler
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import config_for, random_model
from bench.gpu_check.sections import numerics


@pytest.fixture(scope="module")
def loaded() -> Bench:
    config = copy.deepcopy(config_for(0)[0])
    config.num_hidden_layers = 1
    model = random_model(config, torch.device("cpu"), torch.float32)
    absorb(model)
    return Bench((), config, "", Path(), 0.0, decoder=Decoder(model))


def rows(loaded: Bench) -> dict[str, bool | None]:
    return {row.name: row.ok for row in numerics.numerics(loaded)}


def test_what_is_right_passes(loaded: Bench) -> None:
    assert set(rows(loaded).values()) == {True}


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
    loaded: Bench, owner: Any, part: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(owner, part)

    def spoilt(*inputs: Any) -> Any:
        return right(*inputs) * 1.001

    monkeypatch.setattr(owner, part, spoilt)
    assert {name for name, ok in rows(loaded).items() if not ok} == {f"attention over pages, {wrong}"}


def test_a_sampler_that_draws_others_than_the_cpu_fails(loaded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of the two samplers is the device's."""
    right, calls = sampler.Sampler.sample, []

    def spoilt(own: Any, scores: torch.Tensor, states: Any) -> Any:
        calls.append(scores)
        return right(own, scores.roll(1, dims=-1) if len(calls) % 2 else scores, states)

    monkeypatch.setattr(sampler.Sampler, "sample", spoilt)
    assert rows(loaded)["draws that are the CPU's"] is False
