"""The GPU check fails past its bounds on the cards that they are for, and says elsewhere why it does not judge."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.models.placement import Gpu, plan
from app.models.units import GIB
from bench.arithmetic.work import Model
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import model_for
from bench.gpu_check.report import Row
from bench.gpu_check.sections.baseline import ratio_row
from bench.gpu_check.sections.decode import judged
from bench.gpu_check.sections.memory import against_plan, memory, planned_bytes
from bench.gpu_check.sections.prefill import rate_row
from bench.gpu_check.sections.profile import counts

H100, H200, RTX = "NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA GeForce RTX 3090"


def bench_on(name: str, gib: int, count: int = 1) -> Bench:
    gpus = tuple(Gpu(index, name, gib * GIB, gib * GIB) for index in range(count))
    config, note = model_for(gpus)
    bench = Bench(gpus, config, note, Path(), 60.0, ceiling_bytes=1e12, ceiling_flops=1e14)
    layer = SimpleNamespace(parameters=lambda: [SimpleNamespace(numel=lambda: 15_000_000_000)])
    bench.decoder = SimpleNamespace(_layers=[layer])  # type: ignore[assignment]  # all that these figures need of it
    return bench


def decode_row(bench: Bench, batch: int, of_floor: float) -> Row:
    floor = judged(bench, batch, 2048, 1.0, {}).detail["floor_ms"]
    return judged(bench, batch, 2048, of_floor * floor, {})


def prefill_row(bench: Bench, chunk: int, before: int, share: float) -> Row:
    flops = Model(bench.config.to_dict()).prefill(chunk, before).flops
    return rate_row(bench, chunk, before, flops / bench.ceiling_flops / share)


def compared(bench: Bench, batch: int, ratio: float) -> Row:
    bench.step_ms[batch, 2048] = 4.0
    return ratio_row(bench, batch, 2048, 4.0 * ratio)


@pytest.mark.parametrize(("card", "gib"), [(H100, 79), (H200, 140)])
def test_one_h100_or_h200_with_the_whole_model_is_judged(card: str, gib: int) -> None:
    bench = bench_on(card, gib)
    verdicts = [
        (decode_row(bench, 1, 2.4), decode_row(bench, 1, 2.6)),
        (decode_row(bench, 32, 1.4), decode_row(bench, 32, 1.6)),
        (compared(bench, 1, 4.1), compared(bench, 1, 3.9)),
        (compared(bench, 32, 1.6), compared(bench, 32, 1.4)),
        (prefill_row(bench, 2048, 0, 0.36), prefill_row(bench, 2048, 0, 0.34)),
        (prefill_row(bench, 2048, 8192, 0.36), prefill_row(bench, 2048, 8192, 0.34)),
    ]
    assert [(held.ok, missed.ok) for held, missed in verdicts] == [(True, False)] * len(verdicts)
    assert all(row.must and "bound: " in row.note for pair in verdicts for row in pair)
    assert prefill_row(bench, 512, 0, 0.1).ok is None


@pytest.mark.parametrize(
    ("card", "gib", "cards", "reason"),
    [
        (RTX, 24, 2, "not judged but on one H100 or H200"),
        (H100, 79, 2, "not judged but on one H100 or H200"),
        (H100, 20, 1, "of 27 layers"),
    ],
)
def test_other_machines_have_the_figure_without_a_verdict_and_the_reason(
    card: str, gib: int, cards: int, reason: str
) -> None:
    bench = bench_on(card, gib, cards)
    for row in (decode_row(bench, 1, 9.0), compared(bench, 32, 0.5), prefill_row(bench, 2048, 0, 0.01)):
        assert (row.ok, row.must) == (None, True)
        assert reason in row.note


def test_generate_is_not_compared_with_what_was_not_measured() -> None:
    assert ratio_row(bench_on(H100, 79), 1, 2048, 40.0).value == "left out"


def ran(name: str, start: int, device: str = "CUDA") -> Any:
    return SimpleNamespace(
        name=name, device_type=SimpleNamespace(name=device), time_range=SimpleNamespace(start=start)
    )


def profiled(launches: int = 379, in_a_layer: int = 14, waits: int = 1, blocking: int = 0) -> Any:
    """A profiler that saw one eager decode step."""
    names = ["embed", *["store_kernel", *["another"] * (in_a_layer - 1)] * 3, "head"]
    called = {
        "cuLaunchKernelEx": launches,
        "cudaMemcpyAsync": 3,
        "cudaMemcpy": blocking,
        "cudaStreamSynchronize": waits,
        "cudaDeviceSynchronize": 1,
    }
    averages = [
        SimpleNamespace(key=key, count=count, device_type=SimpleNamespace(name="CPU"))
        for key, count in called.items()
        if count
    ]
    events = [ran(name, place) for place, name in enumerate(names)]
    return SimpleNamespace(key_averages=lambda: averages, events=lambda: [ran("aten::mm", 0, "CPU"), *events[::-1]])


@pytest.mark.parametrize(
    ("changes", "failed"),
    [
        ({}, []),
        ({"launches": 501}, ["launches"]),
        ({"in_a_layer": 17}, ["in a layer"]),
        ({"waits": 2}, ["waits"]),
        ({"waits": 0, "blocking": 1}, ["blocking copies"]),
    ],
)
def test_a_decode_step_that_launches_or_waits_too_often_fails_on_any_card(
    changes: dict[str, int], failed: list[str]
) -> None:
    rows = list(counts(bench_on(RTX, 24, 2), profiled(**changes), 1, "eager"))
    assert [row.name.partition(": ")[2] for row in rows if row.ok is False] == failed
    assert sum(row.ok is True for row in rows) == 4 - len(failed)
    assert all(row.must for row in rows)


def test_a_profiler_that_saw_nothing_is_no_proof() -> None:
    with pytest.raises(RuntimeError, match="saw no launch"):
        list(counts(bench_on(H100, 79), profiled(launches=0), 1, "eager"))


def test_the_peak_of_memory_is_the_plans_within_two_percent_and_never_above() -> None:
    found = [against_plan("peak", ratio, "").ok for ratio in (0.97, 0.985, 1.0, 1.001)]
    assert found == [False, True, True, False]


def test_the_plan_of_a_card_counts_weights_pages_and_the_reserve() -> None:
    bench = bench_on(H100, 79)
    planned = plan(bench.config.to_dict(), bench.gpus, reserve_gib=2)
    (share,) = planned.shares
    assert share.gpu.free - share.kv_per_token < planned_bytes(share, planned.kv_tokens) <= share.gpu.free


def test_memory_is_not_left_out_for_want_of_a_gpu_where_there_is_one() -> None:
    with pytest.raises(RuntimeError, match="the model was not loaded"):
        list(memory(bench_on(H100, 79)))
