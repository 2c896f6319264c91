"""The KV cache is as large as the memory that was measured, and no larger than planned."""

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from app.engine.errors import LoadError
from app.engine.execution.decoder import Decoder
from app.engine.execution.memory import pool_size
from app.engine.execution.memory.pool_size import MARGIN, free_beside_a_step, pages_that_fit
from app.engine.kv.pages import PAGE_SIZE
from app.models.placement import LEAST_KV_TOKENS
from tests.support.driving import over_pages
from tests.support.simgpu import gpus
from tests.support.split import split
from tests.support.tiny import tiny_deepseek

LAYERS = 2  # on each of two GPUs


@pytest.fixture
def decoder() -> Decoder:
    model = over_pages(tiny_deepseek())
    split(model, LAYERS)
    return Decoder(model)


def pages(decoder: Decoder, planned: int, *left: int) -> int:
    """With the bytes of this many pages left on each GPU beside the largest step."""
    one = LAYERS * decoder.backend.page_bytes
    free = {gpu: MARGIN + count * one + one // 2 for gpu, count in zip(gpus(), left, strict=True)}
    return pages_that_fit(decoder, planned, prompt_tokens=64, sequences=4, measure=lambda *_: free)


def test_the_gpu_with_the_least_memory_decides(decoder: Decoder) -> None:
    assert pages(decoder, 1000 * PAGE_SIZE, 300, 200) == 200
    assert pages(decoder, 1000 * PAGE_SIZE, 200, 300) == 200


def test_a_gpu_without_layers_does_not_count() -> None:
    model = over_pages(tiny_deepseek())
    split(model, 2 * LAYERS)
    decoder = Decoder(model)
    free = dict.fromkeys(gpus(), MARGIN + 200 * 2 * LAYERS * decoder.backend.page_bytes)
    free[gpus()[1]] = 0
    planned = 1000 * PAGE_SIZE
    assert pages_that_fit(decoder, planned, prompt_tokens=64, sequences=4, measure=lambda *_: free) == 200


def test_the_plan_is_not_exceeded(decoder: Decoder) -> None:
    assert pages(decoder, 100 * PAGE_SIZE, 300, 200) == 100


def test_too_little_memory_ends_the_start_and_says_what_to_do(decoder: Decoder) -> None:
    with pytest.raises(LoadError, match="lower MAX_SEQUENCES or PREFILL_CHUNK"):
        pages(decoder, 1000 * PAGE_SIZE, 300, LEAST_KV_TOKENS // PAGE_SIZE - 1)


@pytest.mark.parametrize("rest", [0, PAGE_SIZE - 1])  # what fills no page is not held
def test_without_a_gpu_the_plan_holds(rest: int) -> None:
    with torch.inference_mode():
        decoder = Decoder(over_pages(tiny_deepseek()))
    planned = 40 * PAGE_SIZE + rest
    assert pages_that_fit(decoder, planned, prompt_tokens=64, sequences=4, measure=free_beside_a_step) == 40
    with pytest.raises(LoadError, match="0 tokens"):
        pages_that_fit(decoder, PAGE_SIZE - 1, prompt_tokens=64, sequences=4, measure=free_beside_a_step)


def test_a_steps_peak_and_the_captured_steps_count_on_each_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """One budget: what is free when nothing runs, less what a step takes beyond what was held, less the graphs."""
    first, second, gb = torch.device("cuda", 0), torch.device("cuda", 1), 10**9
    ran: list[tuple[int, int]] = []
    driver = {
        "reset_peak_memory_stats": lambda _gpu: ran.clear(),
        "memory_allocated": lambda gpu: {first: 16, second: 14}[gpu] * gb,
        "max_memory_allocated": lambda gpu: {first: 19, second: 15}[gpu] * gb if len(ran) == 2 else 0,
        "device": lambda _gpu: nullcontext(),
        "empty_cache": lambda: None,
        "mem_get_info": lambda gpu: ({first: 7, second: 9}[gpu] * gb, 24 * gb),
    }
    for name, function in driver.items():
        monkeypatch.setattr(torch.cuda, name, function)

    def greedy(_decoder: Any, prompts: list[list[int]], _tokens: int, *, chunk: int) -> None:
        ran.append((len(prompts), chunk))

    monkeypatch.setattr(pool_size, "greedy", greedy)
    monkeypatch.setattr(pool_size, "graph_bytes", lambda _decoder, sequences: {second: sequences * gb // 64})
    decoder = cast("Decoder", SimpleNamespace(devices=[first, second]))
    assert free_beside_a_step(decoder, 512, 64) == {first: 4 * gb, second: 7 * gb}
    assert ran == [(1, 512), (64, 512)]
