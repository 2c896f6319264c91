"""Decode steps: the time of one against the least that memory bandwidth allows, and the time of its parts."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row

CASES = ((1, 128), (1, 2048), (1, 8192), (8, 2048), (32, 2048), (64, 512))
"""(sequences, tokens of context)."""

SMALL_CASES = ((1, 64), (4, 64))
STEPS = 20


def decode(bench: Bench) -> Iterator[Row]:
    driven = Driven(bench)
    for batch, context in CASES if bench.gpus else SMALL_CASES:
        step, parts = measure(bench, driven, batch, context)
        shares = ", ".join(f"{name} {value:.2f}" for name, value in parts.items())
        yield step_row(bench, "decode step", batch, context, step, note=shares, detail={"parts_ms": parts})


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


def measure(bench: Bench, driven: Driven, batch: int, context: int) -> tuple[float, dict[str, float]]:
    """Median milliseconds of a step with every sequence decoding, and of its parts on the host."""
    for number in range(batch):
        driven.submit(str(number), driven.prompt(context), STEPS + 40)
    driven.until_all_decode()
    clock = Clock(driven)
    steps: list[float] = []
    for _ in range(STEPS + 5):
        bench.synchronize()
        begun = time.perf_counter()
        driven.runner.step()
        bench.synchronize()
        steps.append((time.perf_counter() - begun) * 1000)
    parts = clock.medians()
    driven.cancel_all()
    steps = sorted(steps[5:])
    return steps[len(steps) // 2], parts


class Clock:
    """Times the parts of each step on the host: decide, lay out and launch the layers, sample and wait, emit."""

    def __init__(self, driven: Driven) -> None:
        self._times: dict[str, list[float]] = {}
        runner = driven.runner
        self._wrap(runner._scheduler, "decide", "decide")  # noqa: SLF001  # the step is taken apart on purpose
        self._wrap(runner._executor, "execute", "launch")  # noqa: SLF001  # likewise
        self._wrap(runner._sampler, "sample", "sample and wait")  # noqa: SLF001  # likewise
        self._wrap(runner, "_flush", "emit")

    def medians(self) -> dict[str, float]:
        return {name: sorted(times)[len(times) // 2] for name, times in self._times.items()}

    def _wrap(self, owner: Any, method: str, name: str) -> None:
        inner: Callable[..., Any] = getattr(type(owner), method)
        times = self._times.setdefault(name, [])

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return inner(owner, *args, **kwargs)
            finally:
                times.append((time.perf_counter() - begun) * 1000)

        setattr(owner, method, timed)


def profile(bench: Bench) -> Iterator[Row]:
    """Launches, copies and waits of one decode step, as torch's profiler counts them, captured and eager."""
    driven = Driven(bench)
    graphs = driven.executor.graphs
    for batch in (1, 32) if bench.gpus else (1,):
        if graphs is not None:
            yield from _profiled(bench, driven, batch, "captured")
        driven.executor.graphs = None
        yield from _profiled(bench, driven, batch, "eager")
        driven.executor.graphs = graphs


def _profiled(bench: Bench, driven: Driven, batch: int, how: str) -> Iterator[Row]:
    for number in range(batch):
        driven.submit(str(number), driven.prompt(512 if bench.gpus else 64), 60)
    driven.until_all_decode()
    for _ in range(5):
        driven.runner.step()
    bench.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.gpus:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        driven.runner.step()
        bench.synchronize()
    driven.cancel_all()
    yield from _counts(profiler, batch, how)


def _counts(profiler: Any, batch: int, how: str) -> Iterator[Row]:
    counts = {event.key: event.count for event in profiler.key_averages()}
    kernels, busy, launched = device_time(profiler)
    copies = sum(count for key, count in counts.items() if key.startswith("cudaMemcpy"))
    waits = sum(count for key, count in counts.items() if key in {"cudaStreamSynchronize", "cudaEventSynchronize"})
    operations = sum(count for key, count in counts.items() if key.startswith("aten::"))
    yield Row(
        f"one decode step, {how}, batch {batch}: launches",
        str(launched),
        note=f"{operations} operations, {copies} copies, {waits} waits, devices busy {busy:.2f} ms",
        detail={"counts": {k: v for k, v in counts.items() if k.startswith("cu")}, "kernels": kernels},
    )


def device_time(profiler: Any) -> tuple[list[tuple[str, int, float]], float, int]:
    """(name, calls, milliseconds) of the 25 kernels with most time, the milliseconds of all, and the launches."""
    averages = profiler.key_averages()
    launched = sum(
        event.count
        for event in averages
        if event.key.startswith(("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"))
    )
    kernels = [event for event in averages if event.device_type.name == "CUDA"]
    kernels.sort(key=lambda event: -event.self_device_time_total)
    busy = sum(event.self_device_time_total for event in kernels) / 1000
    top = [(event.key[:90], event.count, round(event.self_device_time_total / 1000, 3)) for event in kernels[:25]]
    return top, busy, launched
