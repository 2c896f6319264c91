"""Decode steps: the time of one against the least that memory bandwidth allows, and the time of its parts."""

import time
from collections.abc import Iterator
from typing import Any

from bench.gpu_check.bench import Bench
from bench.gpu_check.bounds import bounded
from bench.gpu_check.clock import Clock
from bench.gpu_check.driven import Driven, tokens_for
from bench.gpu_check.report import Row

CASES = ((1, 128), (1, 2048), (1, 8192), (1, 32_768), (8, 2048), (32, 2048), (64, 512))
"""(sequences, tokens of context)."""

BOUNDS = {(1, 2048): 2.5, (32, 2048): 1.5}
"""The most that a step may take, as a multiple of the floor. The parts of these steps have rows of their own."""

SMALL_CASES = ((1, 64), (4, 64))
WARM_STEPS, STEPS, SPLIT_STEPS = 5, 20, 10
ALL_STEPS = WARM_STEPS + STEPS + SPLIT_STEPS


def decode(bench: Bench) -> Iterator[Row]:
    driven = Driven(bench)
    for batch, context in CASES if bench.gpus else SMALL_CASES:
        name = f"decode step, batch {batch}, context {context}"
        if not fits(driven, batch, context):
            yield Row(name, "left out", note=f"the KV cache holds {driven.runner.kv_tokens:,} tokens")
            continue
        step, parts = measure(bench, driven, batch, context)
        bench.step_ms[batch, context] = step
        yield judged(bench, batch, context, step, parts)
        if (batch, context) in BOUNDS or not bench.gpus:
            for part, value in parts.items():
                yield Row(f"of batch {batch}, context {context}: {part}", value, "ms")


def judged(bench: Bench, batch: int, context: int, step: float, parts: dict[str, float]) -> Row:
    shares = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
    row = step_row(bench, "decode step", batch, context, step, note=shares, detail={"parts_ms": parts})
    most = BOUNDS.get((batch, context))
    if most is None:
        return row
    return bounded(bench, row, f"{most}x the floor", held=step <= most * row.detail["floor_ms"])


def step_row(
    bench: Bench, what: str, batch: int, context: int, step: float, *, note: str, detail: dict[str, Any]
) -> Row:
    """A step of `step` milliseconds, against the least that memory bandwidth allows."""
    floor = _step_bytes(bench, batch, context) / bench.ceiling_bytes * 1000
    return Row(
        f"{what}, batch {batch}, context {context}",
        step,
        "ms",
        note=f"{batch / step * 1000:.0f} tokens/s; {step / floor:.1f}x the floor of {floor:.2f}; {note}",
        detail={"floor_ms": floor, **detail},
    )


def _step_bytes(bench: Bench, batch: int, context: int) -> float:
    """Bytes that one decode step has to read: the weights that it uses, and the caches.

    Of E experts, `batch` tokens with k each hit E * (1 - (1 - k/E)^batch) on average when routed evenly.
    """
    config, size = bench.config, bench.dtype.itemsize
    experts = config.n_routed_experts
    hit = experts * (1 - (1 - config.num_experts_per_tok / experts) ** batch)
    expert = 3 * config.hidden_size * config.moe_intermediate_size
    moe_layers = config.num_hidden_layers - config.first_k_dense_replace
    routed_all = moe_layers * experts * expert
    parameters = sum(p.numel() for layer in bench.loaded._layers for p in layer.parameters())  # noqa: SLF001  # the weights that a step reads
    head = config.vocab_size * config.hidden_size
    cache = batch * context * config.num_hidden_layers * (config.kv_lora_rank + config.qk_rope_head_dim)
    total: float = (parameters - routed_all + moe_layers * hit * expert + head + cache) * size
    return total


def fits(driven: Driven, batch: int, context: int) -> bool:
    """Whether the KV cache holds the sequences of `measure`; they would be preempted else."""
    return batch * (context + tokens_for(batch, context, ALL_STEPS)) <= driven.runner.kv_tokens


def measure(bench: Bench, driven: Driven, batch: int, context: int) -> tuple[float, dict[str, float]]:
    """Median milliseconds of a step with every sequence decoding, and of its parts, which are of other steps. Raises
    RuntimeError when a request ended with an error."""
    driven.decode_together(batch, context, ALL_STEPS)
    steps: list[float] = []
    for _ in range(WARM_STEPS + STEPS):
        bench.synchronize()
        begun = time.perf_counter()
        driven.step()
        bench.synchronize()
        steps.append((time.perf_counter() - begun) * 1000)
    with Clock(bench, driven) as clock:
        for _ in range(SPLIT_STEPS):
            bench.synchronize()
            clock.step()
    driven.cancel_all()
    steps = sorted(steps[WARM_STEPS:])
    return steps[len(steps) // 2], clock.medians()
