"""Plain transformers on the same weights, to compare the engine with."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row

CASES = ((1, 2048), (32, 2048))
SMALL_CASES = ((1, 64),)
NEW = 24


@torch.inference_mode()
def baseline(bench: Bench) -> Iterator[Row]:
    bench.decoder = None  # two copies of the weights do not fit
    bench.free_memory()
    device = {"": 0} if bench.gpus else None
    model: Any = AutoModelForCausalLM.from_pretrained(bench.folder, dtype=bench.dtype, device_map=device)
    for batch, context in CASES if bench.gpus else SMALL_CASES:
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
        step = (times[NEW] - times[1]) / (NEW - 1) * 1000
        yield Row(
            f"transformers generate, batch {batch}, context {context}",
            step,
            "ms",
            note=f"a token; {batch / step * 1000:.0f} tokens/s; prefill {times[1] * 1000:.0f} ms",
        )
