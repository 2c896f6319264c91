"""Peak memory against the plan, and answers after a forced out-of-memory."""

from collections.abc import Iterator
from dataclasses import replace

import torch

from app.engine.config import EngineConfig
from app.models.placement import Share
from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row

LEAST_OF_PLAN = 0.98


def memory(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("peaks and out-of-memory", "left out", note="without a GPU nothing is measured")
        return
    config = bench.configured
    yield from _forced(bench)
    yield from _full(bench, config)


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
    yield against_plan("KV cache, measured / planned tokens", share, f"{tokens:,} tokens")
    for number in range(32):
        driven.submit(str(number), driven.prompt(4096), 8)
    driven.run()
    yield Row("answers beside the full cache", f"{32 - len(driven.errors)} of 32", ok=not driven.errors)
    for part in (part for part in config.plan.shares if part.modules):
        index, planned = part.gpu.index, planned_bytes(part, config.plan.kv_tokens)
        free, _ = torch.cuda.mem_get_info(index)
        outside = part.gpu.free - free - torch.cuda.memory_reserved(index)  # the driver's and the libraries' own
        peak = torch.cuda.max_memory_reserved(index) + max(0, outside)
        note = f"{peak / 2**30:.2f} of {planned / 2**30:.2f} GiB, {outside / 2**30:.2f} of it outside torch"
        yield against_plan(f"GPU {index}, peak / plan", peak / planned, note)


def planned_bytes(part: Share, kv_tokens: int) -> int:
    """What the plan gives a GPU: weights, pages and the reserve for all else."""
    return part.weights + kv_tokens * part.kv_per_token + part.reserve


def against_plan(name: str, ratio: float, note: str) -> Row:
    """Held where the plan is right within 2 % and promised enough; on any card."""
    bound = f"bound: {LEAST_OF_PLAN} to 1"
    return Row(name, ratio, ok=LEAST_OF_PLAN <= ratio <= 1, note=f"{note}; {bound}", must=True)
