"""Decode steps in three ways on the same weights: plain torch, Triton's kernels, and those in CUDA graphs."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.execution.decoder import Segment, through_modules
from app.engine.execution.executor import Executor
from app.engine.execution.graphs.decode_graphs import capture_steps
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.kv.shape import LatentShape
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import Scheduler
from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row
from bench.gpu_check.sections.decode import fits, measure, step_row

CASES = ((1, 2048), (8, 2048), (32, 2048))
"""(sequences, tokens of context)."""

LENGTHS = (1, 31, 32, 33, 300, 1000, 1500, 77)
"""Prompts of the comparison of logits; as many as one captured size has rows."""

SAME_KERNELS, OTHER_KERNELS = 0.01, 0.1
"""Bounds for the norm of the difference of logits: of a replay, and of other kernels, which may turn a close choice
of experts."""


def captured(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("kernels and graphs against plain torch", "left out", note="measured on GPUs only")
        return
    yield Row("attention of decode steps", bench.loaded.backend.name, ok=bench.loaded.backend.reads_tables)
    yield from _logits(bench)
    yield from _times(bench)


def _plain(bench: Bench) -> LatentsBackend:
    config = bench.config
    shape = LatentShape(config.kv_lora_rank, config.qk_rope_head_dim)
    return LatentsBackend(shape, PAGE_SIZE, bench.loaded.dtype)


def _times(bench: Bench) -> Iterator[Row]:
    own = bench.loaded.backend
    driven = Driven(bench)
    graphs = driven.executor.graphs
    yield Row("captured sizes", "none" if graphs is None else str(len(graphs.sizes)), ok=graphs is not None)
    cases = [case for case in CASES if fits(driven, *case)]
    if len(cases) < len(CASES):
        yield Row("longer captured decode steps", "left out", note="the KV cache does not hold their sequences")
    times = {case: {"graphs": measure(bench, driven, *case)[0]} for case in cases}
    driven.executor.graphs = None
    for case in cases:
        times[case]["Triton, eager"] = measure(bench, driven, *case)[0]
    del driven, graphs
    bench.free_memory()
    bench.loaded.backend = _plain(bench)
    try:
        with _modules(bench):
            driven = Driven(bench)
            for case in cases:
                times[case]["plain torch, eager"] = measure(bench, driven, *case)[0]
    finally:
        bench.loaded.backend = own
    for (batch, context), ways in times.items():
        others = ", ".join(f"{name} {value:.1f}" for name, value in ways.items() if name != "graphs")
        detail = {"ways_ms": ways}
        yield step_row(bench, "captured decode step", batch, context, ways["graphs"], note=others, detail=detail)


@torch.inference_mode()
def _logits(bench: Bench) -> Iterator[Row]:
    """One step on the same pages in the three ways: a step can be computed again."""
    decoder = bench.loaded
    pages = sum(length // PAGE_SIZE + 2 for length in LENGTHS)
    cache = decoder.new_cache(pages)
    graphs = capture_steps(decoder, cache, len(LENGTHS))
    decision = _decoding(bench, Executor(decoder, cache), pages)
    eager = _computed(Executor(decoder, cache), decision)
    if graphs is None:
        yield Row("logits of a captured step", "nothing is captured", ok=False)
    else:
        replayed = _computed(Executor(decoder, cache, graphs), decision)
        yield _difference("a replay and its eager step", replayed, eager, SAME_KERNELS)
    if len(decoder.segments) == 1:  # else the replay above was over several
        with _halves(bench):
            graphs = capture_steps(decoder, cache, len(LENGTHS))
            halves = eager if graphs is None else _computed(Executor(decoder, cache, graphs), decision)
            yield _difference("two graphs, as over two GPUs, and the eager step", halves, eager, SAME_KERNELS)
    cache.backend = _plain(bench)
    with _modules(bench):
        plain = _computed(Executor(decoder, cache), decision)
    yield _difference("our kernels and plain torch", eager, plain, OTHER_KERNELS)


@contextmanager
def _halves(bench: Bench) -> Iterator[None]:
    """Two segments of layers on one GPU, as there would be over two."""
    from app.engine.layers.deepseek import FewOperations  # noqa: PLC0415  # it needs Triton

    own = bench.loaded.segments
    (whole,) = own
    parts = whole.layers[: len(whole.layers) // 2], whole.layers[len(whole.layers) // 2 :]
    bench.loaded.segments = [Segment(whole.device, part, FewOperations(part, bench.loaded.experts)) for part in parts]
    try:
        yield
    finally:
        bench.loaded.segments = own


@contextmanager
def _modules(bench: Bench) -> Iterator[None]:
    """The layers as transformers has them."""
    own = bench.loaded.segments
    bench.loaded.segments = [Segment(each.device, each.layers, through_modules(each.layers)) for each in own]
    try:
        yield
    finally:
        bench.loaded.segments = own


def _computed(executor: Executor, decision: Decision) -> Tensor:
    return executor.execute(decision)[1].float().clone()


def _difference(name: str, one: Tensor, other: Tensor, bound: float) -> Row:
    error = float((one - other).norm() / other.norm())
    agreed = int((one.argmax(-1) == other.argmax(-1)).sum())
    note = f"by the norm, bfloat16; {agreed} of {len(one)} next tokens agree"
    return Row(f"logits differ, {name}", error, ok=error < bound, note=note)


def _decoding(bench: Bench, executor: Executor, pages: int) -> Decision:
    """The first step in which every prompt has been computed."""
    dice = random.Random(5)
    prompts = [[dice.randrange(3, bench.config.vocab_size) for _ in range(length)] for length in LENGTHS]
    scheduler = Scheduler(KvManager(PagePool(pages, PAGE_SIZE)), max_sequences=len(prompts), chunk=512)
    for number, prompt in enumerate(prompts):
        scheduler.add(TokenSequence(str(number), prompt, PAGE_SIZE))
    while True:
        decision = scheduler.decide()
        if decision is None:
            raise RuntimeError("the scheduler has nothing to do before all prompts are computed")
        if len(decision.decode) == len(prompts):
            return decision
        chunks, logits, _ = executor.execute(decision)
        scheduler.advance(decision)
        for chunk, row in zip(chunks, logits, strict=True):
            chunk.sequence.tokens.append(int(row.argmax()))
