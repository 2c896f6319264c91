"""Prefill: tokens per second in chunks of several sizes, with nothing and with a long context before them, and what
parts cost on one card or gain on several."""

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from app.engine.execution.executor import Executor
from app.engine.execution.parts import COUNTS, measured
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.scheduler import ALONE, Scheduler
from bench.arithmetic.work import Model
from bench.gpu_check.bench import Bench
from bench.gpu_check.bounds import bounded
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row
from bench.gpu_check.sections.profile import device_time

CASES = ((512, 0), (2048, 0), (4096, 0), (2048, 8192))
"""(tokens of a chunk, tokens before it)."""

LEAST_SHARE, JUDGED = 0.35, 2048
"""Of the matrix product's ceiling, for chunks of so many tokens and more."""

SMALL_CASES = ((32, 0), (32, 64))
TRIES = 3


def prefill(bench: Bench) -> Iterator[Row]:
    prompts = Driven(bench)
    for chunk, before in CASES if bench.gpus else SMALL_CASES:
        seconds = min(_chunk_seconds(bench, prompts.prompt(before + chunk), chunk) for _ in range(TRIES))
        yield rate_row(bench, chunk, before, seconds)


def rate_row(bench: Bench, chunk: int, before: int, seconds: float) -> Row:
    """A chunk that took so long, against the matrix product's ceiling.

    What must be multiplied is counted from the configuration (`bench/arithmetic/work.py`): a token's weights, the
    expansion of the context's latents, the scores and sums of what each token sees, and one token's logits.
    """
    ceiling = seconds * bench.ceiling_flops
    share = Model(bench.config.to_dict()).prefill(chunk, before).flops / ceiling
    alone = 2 * active_parameters(bench) * chunk / ceiling
    row = Row(
        f"prefill, chunk {chunk} behind {before}",
        chunk / seconds,
        "tokens/s",
        note=f"{seconds * 1000:.1f} ms; {share:.0%} of the matrix product's ceiling, weights alone {alone:.0%}",
        detail={"share_of_ceiling": share},
    )
    if chunk < JUDGED:
        return row
    return bounded(bench, row, f"{LEAST_SHARE:.0%}", held=share >= LEAST_SHARE)


def profile_chunk(bench: Bench) -> Iterator[Row]:
    """What the devices do in one chunk: kernels by their time."""
    chunk, before = (2048, 2048) if bench.gpus else SMALL_CASES[1]
    tokens = Driven(bench).prompt(before + chunk)
    _chunk_seconds(bench, tokens, chunk)
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.gpus:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    profiler = torch.profiler.profile(activities=activities)
    _chunk_seconds(bench, tokens, chunk, around_last=profiler)
    kernels, busy, launched = device_time(profiler)
    yield Row(
        f"one chunk of {chunk} behind {before}: launches",
        str(launched),
        note=f"devices busy {busy:.1f} ms",
        detail={"kernels": kernels},
    )


def parts(bench: Bench) -> Iterator[Row]:
    """On one card parts can only cost: what launching them and reading all weights for each takes."""
    rows = CASES[1][0] if bench.gpus else SMALL_CASES[0][0]
    seconds_of = measured(bench.loaded, rows)
    whole = seconds_of(rows, 1)
    for count in COUNTS[1:]:
        taken = seconds_of(rows, count)
        yield Row(
            f"prefill, {rows} in {count} parts",
            taken * 1000,
            "ms",
            note=f"{taken / whole:.2f}x the whole step of {whole * 1000:.1f}; {len(bench.loaded.devices)} devices",
        )
    bench.loaded.parts = {}


def active_parameters(bench: Bench) -> float:
    """Parameters that multiply one token: attention, shared and chosen experts; no embedding, no head."""
    config = bench.config
    every = sum(p.numel() for layer in bench.loaded._layers for p in layer.parameters())  # noqa: SLF001  # as loaded
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    idle = config.n_routed_experts - config.num_experts_per_tok
    active: float = every - (config.num_hidden_layers - config.first_k_dense_replace) * idle * expert
    return active


@torch.inference_mode()
def _chunk_seconds(
    bench: Bench, tokens: list[int], chunk: int, around_last: AbstractContextManager[Any] | None = None
) -> float:
    """The time of the last chunk alone. The chunks before it are computed first."""
    pool = PagePool(-(-len(tokens) // PAGE_SIZE) + 1, PAGE_SIZE)
    # The scheduler takes ALONE chunks at once while no sequence decodes.
    scheduler = Scheduler(KvManager(pool), max_sequences=1, chunk=chunk // ALONE)
    sequence = TokenSequence("prefill", tokens, 1)
    scheduler.add(sequence)
    executor = Executor(bench.loaded, bench.loaded.new_cache(pool.count))
    seconds = 0.0
    while sequence.computed < len(tokens):
        decision = scheduler.decide()
        if decision is None:
            raise RuntimeError("the scheduler has nothing to do before the prompt ends")
        last = sequence.computed + chunk >= len(tokens)
        with (around_last or nullcontext()) if last else nullcontext():
            bench.synchronize()
            begun = time.perf_counter()
            executor.execute(decision)
            bench.synchronize()
        seconds = time.perf_counter() - begun
        scheduler.advance(decision)
    return seconds
