"""`python -m bench.arithmetic` writes bench/ARITHMETIC.md: what steps cost by calculation, without a GPU."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # kernels are recorded and not compiled; read when they are imported

from collections.abc import Iterator
from pathlib import Path

from transformers import DeepseekV2Config

from app.models.catalogue import DEEPSEEK
from bench.arithmetic import launches
from bench.arithmetic.pipeline import cut, makespan
from bench.arithmetic.sheets import CARDS
from bench.arithmetic.work import Model, Work

TARGET = Path(__file__).parents[1] / "ARITHMETIC.md"

PER_LAUNCH = 4.3e-6
"""Seconds that a kernel of a captured decode step costs beside its bytes: on an H200 such a step at batch 1 took 2.64
ms, where 361 kernels read for 1.09 (bench/RESULTS.md; the bandwidth is the data sheet's)."""

DECODE = ((1, 2048), (8, 2048), (32, 2048), (64, 512))
"""(sequences, tokens of context)."""

PREFILL = ((512, 0), (2048, 0), (2048, 8192))
"""(tokens of a chunk, tokens before it)."""

IN_PARTS = (1, 2, 4, 8)


def document() -> str:
    lines = [
        "# Arithmetic",
        "",
        "Written by `python -m bench.arithmetic`. **Nothing here was measured on a GPU** but the cost of a launch.",
        "Bytes and operations are computed from DeepSeek-Coder-V2-Lite's configuration, and launches are counted by",
        "running its decoder on tensors without memory. [RESULTS.md](RESULTS.md) has what was measured, and on which",
        "card.",
        "",
        "| step | bytes read | operations | launches | of them in a layer | waits for the device |",
        "| --- | --- | --- | --- | --- | --- |",
        *_steps(),
        "",
        "A layer's launches are those of a layer with experts. A step that waits for its device cannot be counted.",
        "",
        "## The least time of a step, and an estimate",
        "",
        "The least time is what the card needs to read or to multiply. The estimate of a decode step adds",
        f"{PER_LAUNCH * 1e6:.1f} µs for each launch, as an H200 took. Two cards in series read as fast as one:",
        "each holds half of the layers.",
        "",
        f"| step | {' | '.join(f'{card}: least, estimate' for card in CARDS)} |",
        f"| --- | {' | '.join('---' for _ in CARDS)} |",
        *_times(),
        "",
        "## Prompts over two cards, in parts",
        "",
        "The least time of a step with prompt tokens where each of two cards holds half of the layers, and computes",
        "one part while the other computes the next. Each part reads all weights and expands its context again. What",
        "crosses between the cards and what the host needs to launch are not in it: the engine measures at its start",
        "which number of parts is best, and tries 1, 2 and 4 (`app/engine/execution/parts.py`).",
        "",
        f"| step | {' | '.join(f'{card}: 1, 2, 4 and 8 parts' for card in CARDS)} |",
        f"| --- | {' | '.join('---' for _ in CARDS)} |",
        *_in_parts(),
        "",
    ]
    return "\n".join(lines)


def _steps() -> Iterator[str]:
    model = Model(DEEPSEEK.config())
    decoder = launches.lite(_made())
    for batch, context in DECODE:
        counted = launches.count(decoder, launches.decode_step([context] * batch))
        yield _step(f"decode, {batch} x {context}", model.decode(batch, context), counted)
    for tokens, before in PREFILL:
        counted = launches.count(decoder, launches.prompt_chunk(tokens, before))
        yield _step(f"prefill, {tokens} behind {before}", model.prefill(tokens, before), counted)


def _step(name: str, need: Work, counted: launches.Launches) -> str:
    return (
        f"| {name} | {need.bytes / 1e9:.1f} GB | {need.flops / 1e12:.2f} T | {len(counted.all)} "
        f"| {counted.in_a_layer} | 0 |"
    )


def _times() -> Iterator[str]:
    model = Model(DEEPSEEK.config())
    count = len(launches.count(launches.lite(_made()), launches.decode_step([2048])).all)
    for batch, context in DECODE:
        need = model.decode(batch, context)
        cells = []
        for bandwidth, flops in CARDS.values():
            least = need.floor(bandwidth, flops)
            step = least + count * PER_LAUNCH
            cells.append(f"{least * 1e3:.1f} ms, {step * 1e3:.1f} ms: {batch / step:,.0f} tokens/s")
        yield f"| decode, {batch} x {context} | {' | '.join(cells)} |"
    for tokens, before in PREFILL:
        need = model.prefill(tokens, before)
        cells = [f"{need.floor(*card) * 1e3:.1f} ms" for card in CARDS.values()]
        yield f"| prefill, {tokens} behind {before} | {' | '.join(cells)} |"


def _in_parts() -> Iterator[str]:
    model = Model(DEEPSEEK.config())
    for step in PREFILL:
        cells = []
        for card in CARDS.values():
            floors = [
                [sum(model.chunk(*chunk).floor(*card) for chunk in part) for part in cut([step], count)]
                for count in IN_PARTS
            ]
            cells.append(", ".join(f"{1e3 * makespan(parts, 2):.1f}" for parts in floors) + " ms")
        yield f"| prefill, {step[0]} behind {step[1]} | {' | '.join(cells)} |"


def _made() -> DeepseekV2Config:
    return DeepseekV2Config(**{key: value for key, value in DEEPSEEK.config().items() if key != "model_type"})


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    print(f"{TARGET} is written")
