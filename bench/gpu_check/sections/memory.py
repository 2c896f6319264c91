"""Peak memory against the plan, and answers after a forced out-of-memory."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from app.engine.config import EngineConfig
from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row


def memory(bench: Bench) -> Iterator[Row]:
    if not bench.gpus or bench.engine_config is None:
        yield Row("peaks and out-of-memory", "left out", note="without a GPU nothing is measured")
        return
    yield from _forced(bench)
    yield from _full(bench, bench.engine_config)


def _forced(bench: Bench) -> Iterator[Row]:
    """Fill nearly all memory, send requests that need more, free it, and ask again."""
    driven = Driven(bench)
    prompt = driven.prompt(512)
    driven.submit("before", prompt, 8)
    driven.run()
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(0)
    hog = torch.empty(max(0, free - 600 * 2**20), dtype=torch.uint8, device=bench.device)
    for number in range(16):
        driven.submit(f"crowd {number}", driven.prompt(4096), 8)
    driven.run()
    answered = sum(len(driven.tokens[f"crowd {number}"]) == 8 for number in range(16))
    ended = sum(code == "out_of_memory" for code in driven.errors.values())
    limits = driven.runner._scheduler.limits()  # noqa: SLF001  # how small the steps had to become
    yield Row(
        "requests answered without free memory",
        f"{answered} of 16",
        ok=answered + ended == 16,
        note=f"{ended} ended with out of memory; steps of {limits['prompt_tokens']} prompt tokens at last",
    )
    del hog
    torch.cuda.empty_cache()
    driven.submit("after", prompt, 8)
    driven.run()
    same = driven.tokens["after"] == driven.tokens["before"]
    yield Row("the same answer afterwards", "yes" if same else "no", ok=same)


def _full(bench: Bench, config: EngineConfig) -> Iterator[Row]:
    """The KV cache at the size that the product gives it, and the largest steps beside it."""
    whole = replace(config, capacity=replace(config.capacity, kv_tokens=config.plan.kv_tokens))
    bench.free_memory()
    for gpu in bench.gpus:
        torch.cuda.reset_peak_memory_stats(gpu.index)
    bench.engine_config = whole
    driven = Driven(bench)
    tokens = driven.runner.kv_tokens
    share = tokens / config.plan.kv_tokens
    yield Row("KV cache, measured / planned tokens", share, ok=share > 0.9, note=f"{tokens:,} tokens")
    for number in range(32):
        driven.submit(str(number), driven.prompt(4096), 8)
    driven.run()
    yield Row("answers beside the full cache", f"{32 - len(driven.errors)} of 32", ok=not driven.errors)
    for part in config.plan.shares:
        peak = torch.cuda.max_memory_reserved(part.gpu.index)
        of = peak / part.gpu.free
        note = f"{peak / 2**30:.1f} of {part.gpu.free / 2**30:.1f} GiB"
        yield Row(f"GPU {part.gpu.index}, reserved at most / free before", of, ok=of <= 1.0, note=note)
