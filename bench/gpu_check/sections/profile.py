"""What one decode step launches, copies and waits for, as torch's profiler counts it."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from bench.gpu_check.bench import Bench
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row

MOST_LAUNCHES, MOST_IN_A_LAYER = 500, 16
"""Of a decode step without graphs, and of one of its layers."""

WAITS = ("cudaStreamSynchronize", "cudaEventSynchronize")
"""Calls of a step that wait; the check itself waits by cudaDeviceSynchronize."""


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
    driven.decode_together(batch, 512 if bench.gpus else 64, 10)
    for _ in range(5):
        driven.step()
    bench.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if bench.gpus:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        driven.step()
        bench.synchronize()
    driven.cancel_all()
    yield from counts(bench, profiler, batch, how)


def counts(bench: Bench, profiler: Any, batch: int, how: str) -> Iterator[Row]:
    """Rows of one profiled step, with bounds for any card where a device launched anything."""
    counted = {event.key: event.count for event in profiler.key_averages()}
    kernels, busy, launched = device_time(profiler)
    if bench.gpus and not launched:
        raise RuntimeError("the profiler saw no launch, so nothing can be said of them")
    copies = sum(count for key, count in counted.items() if key.startswith("cudaMemcpy"))
    blocking = sum(count for key, count in counted.items() if key.startswith("cudaMemcpy") and "Async" not in key)
    waits = sum(counted.get(key, 0) for key in WAITS)
    operations = sum(count for key, count in counted.items() if key.startswith("aten::"))
    step = f"one decode step, {how}, batch {batch}"
    eager = how == "eager"
    whole = f"; bound: {MOST_LAUNCHES}" if eager else ""
    yield Row(
        f"{step}: launches",
        str(launched),
        ok=_held(bench, launched <= MOST_LAUNCHES) if eager else None,
        note=f"{operations} operations, {copies} copies, {waits} waits, devices busy {busy:.2f} ms{whole}",
        detail={"counts": {k: v for k, v in counted.items() if k.startswith("cu")}, "kernels": kernels},
        must=eager,
    )
    if eager:
        layer = in_a_layer(profiler.events()) or -(-launched // bench.config.num_hidden_layers)
        note = f"bound: {MOST_IN_A_LAYER}"
        yield Row(f"{step}: in a layer", str(layer), ok=_held(bench, layer <= MOST_IN_A_LAYER), note=note, must=True)
    yield Row(f"{step}: waits", str(waits), ok=_held(bench, waits <= 1), note="bound: 1", must=True)
    yield Row(f"{step}: blocking copies", str(blocking), ok=_held(bench, not blocking), note="bound: 0", must=True)


def _held(bench: Bench, held: bool) -> bool | None:
    """No verdict without a GPU: nothing was launched."""
    return held if bench.gpus else None


def in_a_layer(events: Iterable[Any]) -> int:
    """What a device ran from one layer's kernel that stores its rows to the next layer's, the last of a step. 0 where
    there is no such kernel: the layers are not ours."""
    ran = sorted((e for e in events if e.device_type.name == "CUDA"), key=lambda e: e.time_range.start)
    places = [place for place, event in enumerate(ran) if event.name.startswith("store_kernel")]
    return places[-1] - places[-2] if len(places) > 1 else 0


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
