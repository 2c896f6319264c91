"""Steps are cut into the number of parts with which they take least, where there are several GPUs."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from app.engine.attention.cache import KvCache
from app.engine.attention.step import Step
from app.engine.execution.decoder import Decoder
from app.engine.execution.parts import choose_parts, measured
from tests.support.driving import over_pages
from tests.support.simgpu import crossings
from tests.support.split import split
from tests.support.tiny import tiny_deepseek


@pytest.fixture
def decoder() -> Decoder:
    model = over_pages(tiny_deepseek())
    split(model, 2)
    return Decoder(model)


def takes(seconds: dict[int, float]) -> Callable[[int, int], float]:
    return lambda _rows, count: seconds[count]


def pipeline(row: float, part: float) -> Callable[[int, int], float]:
    """Two GPUs, each of which takes `part` for a part, whatever it has, and `row` for a row."""
    return lambda rows, count: (count + 1) * (part + row * rows / count)


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({1: 1.0, 2: 0.75, 4: 0.63}, 4),
        ({1: 1.0, 2: 0.75, 4: 0.8}, 2),
        ({1: 1.0, 2: 1.1, 4: 1.3}, 1),
        ({1: 1.0, 2: 1.1, 4: 0.8}, 4),
        ({1: 1.0, 2: 0.96, 4: 0.97}, 1),  # as much as measurements differ
    ],
)
def test_the_fastest_number_of_parts_is_taken(decoder: Decoder, seconds: dict[int, float], best: int) -> None:
    choose_parts(decoder, (64,), lambda *_: takes(seconds))
    assert decoder.parts == {64: best}


def test_each_size_has_its_own_number(decoder: Decoder) -> None:
    choose_parts(decoder, (64, 512), lambda *_: pipeline(row=1.0, part=16.0))
    assert decoder.parts == {64: 2, 512: 4}


def test_one_device_computes_whole_steps() -> None:
    decoder = Decoder(over_pages(tiny_deepseek()))
    choose_parts(decoder, (64,), lambda *_: takes({}))
    assert not decoder.parts


def test_steps_stay_whole_where_parts_do_not_run(decoder: Decoder, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_rows: int, count: int) -> float:
        decoder.parts = {64: count}
        if count > 1:
            raise RuntimeError("no kernel for so few rows")
        return 1.0

    choose_parts(decoder, (64,), lambda *_: fails)
    assert decoder.parts == {}
    assert "parts do not run here" in caplog.text


@torch.inference_mode()
def test_the_measured_prompt_is_like_a_text(decoder: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal tokens would choose the same experts, whose weights are then read for no part but one."""
    seen: list[list[int]] = []
    forward = decoder.forward

    def noting(step: Step, cache: KvCache) -> Any:
        seen.append(step.tokens)
        return forward(step, cache)

    monkeypatch.setattr(decoder, "forward", noting)
    measured(decoder, 64)(64, 2)
    assert len(set(seen[0])) > 32


@torch.inference_mode()
def test_what_is_measured_is_a_step_in_so_many_parts(decoder: Decoder) -> None:
    seconds_of = measured(decoder, 64)
    with crossings() as recorded:
        assert seconds_of(64, 4) > 0
    between = [crossing.shape[1] for crossing in recorded if crossing.between_gpus]
    assert set(between) == {16}
