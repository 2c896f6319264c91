"""Plain transformers on the same weights, to compare the engine with."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from app.engine.config import EngineConfig
from bench.gpu_check.bench import Bench
from bench.gpu_check.bounds import bounded
from bench.gpu_check.report import Row

CASES = ((1, 2048), (32, 2048))
SMALL_CASES = ((1, 64),)
NEW = 24

LEAST = {1: 4.0, 32: 1.5}
"""How many times faster the engine must be, by the number of sequences."""


@torch.inference_mode()
def baseline(bench: Bench) -> Iterator[Row]:
    config = bench.configured
    bench.decoder = None  # two copies of the weights do not fit
    bench.free_memory()
    model = plain_model(config, bench.dtype)
    for batch, context in CASES if bench.gpus else SMALL_CASES:
        name = f"transformers generate, batch {batch}, context {context}"
        times = _times(bench, model, batch, context)
        if times is None:
            bench.free_memory()
            yield Row(name, "left out", note="there is not enough memory for its own cache")
            continue
        step = (times[NEW] - times[1]) / (NEW - 1) * 1000
        note = f"a token; {batch / step * 1000:.0f} tokens/s; prefill {times[1] * 1000:.0f} ms"
        yield Row(name, step, "ms", note=note)
        yield ratio_row(bench, batch, context, step)


def plain_model(config: EngineConfig, dtype: torch.dtype) -> Any:
    """The model as transformers has it, over the devices of the product's plan."""
    device_map = config.plan.device_map or None
    return AutoModelForCausalLM.from_pretrained(config.folder, dtype=dtype, device_map=device_map)


def ratio_row(bench: Bench, batch: int, context: int, step: float) -> Row:
    """How much longer `generate` takes for a token, `step` milliseconds, than a step of the engine."""
    name = f"generate / our decode step, batch {batch}, context {context}"
    ours = bench.step_ms.get((batch, context))
    if ours is None:
        return Row(name, "left out", note="the engine's step was not measured in this run", must=True)
    ratio, least = step / ours, LEAST[batch]
    return bounded(bench, Row(name, ratio, "times"), f"{least}", held=ratio >= least)


def _times(bench: Bench, model: Any, batch: int, context: int) -> dict[int, float] | None:
    """Seconds of answers with so many new tokens; None without enough memory."""
    try:
        ids = torch.randint(3, bench.config.vocab_size, (batch, context), device=bench.device)
        times = {}
        for new in (1, NEW, 1, NEW):  # the first two warm up
            bench.synchronize()
            begun = time.perf_counter()
            model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                min_new_tokens=new,
                max_new_tokens=new,
                do_sample=False,
                pad_token_id=0,
            )
            bench.synchronize()
            times[new] = time.perf_counter() - begun
    except torch.OutOfMemoryError:
        return None
    return times
