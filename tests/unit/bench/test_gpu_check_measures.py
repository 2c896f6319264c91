"""What the GPU check measures on an engine that is loaded: all sequences, no failed step, over one device or two."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import bench.gpu_check.sections.captured as captures
import bench.gpu_check.sections.decode as decodes
from app.contract.telemetry import Observers, StepDone
from app.engine.attention.mla import absorb
from app.engine.execution.decoder import Decoder
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.scheduler import Scheduler
from app.engine.thread import CPU_CHUNK, GPU_CHUNK
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import config_for
from bench.gpu_check.clock import PARTS
from bench.gpu_check.driven import Driven, tokens_for
from bench.gpu_check.report import Check, Report, Row
from bench.gpu_check.sections.baseline import baseline
from bench.gpu_check.sections.copies import between
from bench.gpu_check.sections.decode import ALL_STEPS, CASES, decode, measure
from bench.gpu_check.sections.load import load
from tests.support.driving import Heard
from tests.support.simgpu import gpus
from tests.support.split import split
from tests.support.tiny import tiny_deepseek

HEARD = Heard()


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    config, note = config_for(0)
    folder = tmp_path_factory.mktemp("gpu-check") / "checkpoint"
    bench = Bench((), config, note, folder, 60.0, ceiling_bytes=1e10, ceiling_flops=1e11)
    bench.observers = Observers([HEARD])
    list(load(bench))
    return bench


@pytest.fixture
def driven(loaded: Bench) -> Driven:
    return Driven(loaded)


@pytest.mark.parametrize(("batch", "context"), [case for case in CASES if case[0] > 1])
@pytest.mark.parametrize("chunk", [CPU_CHUNK, GPU_CHUNK])
def test_the_first_sequence_still_decodes_when_the_last_one_was_measured(
    batch: int, context: int, chunk: int
) -> None:
    """It has long decoded when the last prompt is computed."""
    tokens = tokens_for(batch, context, ALL_STEPS)
    pages = batch * (-(-(context + tokens) // PAGE_SIZE) + 1)
    scheduler = Scheduler(KvManager(PagePool(pages, PAGE_SIZE)), max_sequences=batch, chunk=chunk)
    sequences = [TokenSequence(str(number), [number] * context, tokens) for number in range(batch)]
    for sequence in sequences:
        scheduler.add(sequence)
    together = 0
    while together < ALL_STEPS:
        decision = scheduler.decide()
        assert decision is not None
        scheduler.advance(decision)
        for part in (*decision.decode, *(part for part in decision.prefill if part.last)):
            part.sequence.tokens.append(5)
        together += len(decision.decode) == batch
    assert max(sequence.generated for sequence in sequences) <= tokens


def test_all_sequences_of_a_measured_step_decode(loaded: Bench, driven: Driven) -> None:
    HEARD.events.clear()
    measure(loaded, driven, 3, 64)
    decoded = [event.decode_tokens for event in HEARD.events if isinstance(event, StepDone)]
    assert decoded[-ALL_STEPS:] == [3] * ALL_STEPS


def test_a_request_that_ends_with_an_error_gives_no_figure(
    loaded: Bench, driven: Driven, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = driven.executor.execute
    steps: list[Any] = []

    def failing(decision: Any) -> Any:
        steps.append(decision)
        if len(steps) == 10:
            raise RuntimeError("a kernel failed")
        return execute(decision)

    monkeypatch.setattr(driven.executor, "execute", failing)
    with pytest.raises(RuntimeError, match="ended with errors: 0: generation_failed"):
        measure(loaded, driven, 1, 64)


def test_a_request_that_ends_early_gives_no_figure(driven: Driven) -> None:
    driven.submit("short", driven.prompt(20), 3)
    driven.until_all_decode()
    driven.step()
    with pytest.raises(RuntimeError, match="ended while"):
        driven.step()


def test_a_slow_step_is_cut_off_and_gives_no_figure(
    loaded: Bench, driven: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(_decision: Any) -> Any:
        while True:
            pass

    def section() -> Iterator[Row]:
        yield Row("step", measure(loaded, driven, 1, 64)[0], "ms", ok=True)

    monkeypatch.setattr(driven.executor, "execute", slow)
    report = Report(tmp_path, Check("A card", "2026-01-02 03:04 UTC", "abc1234"))
    report.run("decode", section, seconds=0.3)
    assert report.sections[0].error.startswith("TimeIsOverError")
    assert report.sections[0].rows == []


def test_a_step_is_taken_apart_and_the_engine_is_left_as_it_was(loaded: Bench, driven: Driven) -> None:
    runner = driven.runner
    before = [dict(vars(part)) for part in (runner._sampler, driven.executor, runner._scheduler)]
    _, parts = measure(loaded, driven, 2, 64)
    assert list(parts) == list(PARTS)
    assert min(parts[part] for part in ("decide", "prepare", "launch", "sample", "emit")) > 0
    assert parts["launch"] > parts["prepare"], "on a CPU it is the computation"
    after = [vars(part).keys() for part in (runner._sampler, driven.executor, runner._scheduler)]
    assert after == [each.keys() for each in before]


def test_generate_is_compared_with_the_step_that_the_same_run_measured(loaded: Bench) -> None:
    rows = {row.name: row for row in decode(loaded)}
    ours = rows["decode step, batch 1, context 64"].value
    assert {f"of batch 1, context 64: {part}" for part in PARTS} <= rows.keys()
    decoder = loaded.loaded
    try:
        theirs, ratio = baseline(loaded)
    finally:
        loaded.decoder = decoder
    assert ratio.value == pytest.approx(float(theirs.value) / float(ours))
    assert ratio.must
    assert ratio.ok is None
    assert "not judged without a GPU" in ratio.note


def test_decode_steps_are_compared_over_two_gpus_too(loaded: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_deepseek(yarn=True, num_hidden_layers=2)
    absorb(model)
    split(model, 1)
    over_two = Bench((), model.config, "", loaded.folder, 60.0, ceiling_bytes=1e10, ceiling_flops=1e11)
    over_two.engine_config = replace(loaded.configured, prefill_chunk=16)
    over_two.decoder = Decoder(model)
    monkeypatch.setattr(captures, "CASES", ((2, 16),))
    monkeypatch.setattr(captures, "LENGTHS", (1, 33))
    for name, count in {"WARM_STEPS": 1, "STEPS": 2, "SPLIT_STEPS": 1}.items():
        monkeypatch.setattr(decodes, name, count)
    rows = {row.name: row for row in [*captures._logits(over_two), *captures._times(over_two)]}
    assert rows["logits differ, our kernels and plain torch"].ok
    assert rows["captured decode step, batch 2, context 16"].value
    assert not any("two graphs" in name for name in rows), "the real ones are compared instead"
    assert {segment.device for segment in over_two.loaded.segments} == set(gpus())


def test_a_copy_says_how_long_it_takes_and_how_fast_it_is(loaded: Bench) -> None:
    row = between(loaded, torch.device("cpu"), torch.device("cpu"), 32)
    assert row.name.endswith("[1, 32, 128]")
    assert float(row.value) > 0
    assert row.note == f"{32 * 128 * 2 / float(row.value) / 1000:.2f} GB/s"
