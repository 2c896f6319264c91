"""`python -m bench.arithmetic` writes bench/ARITHMETIC.md: what steps cost by calculation, without a GPU."""

import os

os.environ["TRITON_INTERPRET"] = "1"  # kernels are recorded and not compiled; read when they are imported

from collections.abc import Iterator, Sequence
from pathlib import Path

from app.engine.execution.parts import COUNTS
from bench.arithmetic import estimates, launches
from bench.arithmetic.pipeline import cut, makespan
from bench.arithmetic.readme import table
from bench.arithmetic.runs import committed
from bench.arithmetic.sheets import CARDS
from bench.arithmetic.work import Work
from bench.simulation.cards import Card, cards

TARGET = Path(__file__).parents[1] / "ARITHMETIC.md"

DECODE = ((1, 2048), (8, 2048), (32, 2048), (32, 512), (64, 512))
"""(sequences, tokens of context)."""

PROFILED = (32, 512)
"""Of this step the time that the device worked was measured, and not the whole."""

MEASURED = ((1, 2048), (8, 2048), (12, 2048), PROFILED, (45, 512))
"""Of the runs whose figures are committed."""

PREFILL = ((512, 0), (2048, 0), (2048, 8192))
"""(tokens of a chunk, tokens before it)."""

IN_PARTS = (1, 2, 4, 8)


def document() -> str:
    pair, *measured = cards()
    lines = [
        "# Arithmetic",
        "",
        "Written by `python -m bench.arithmetic`. **Nothing here was measured** but what a line says was.",
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
        "## The least time of a step",
        "",
        "What a card needs to read or to multiply by its data sheet, which no program reaches. Two cards in series",
        "read as fast as one: each holds half of the layers.",
        "",
        f"| step | {' | '.join(CARDS)} |",
        f"| --- | {' | '.join('---' for _ in CARDS)} |",
        *_least(),
        "",
        "## An estimate of decode steps",
        "",
        "What a step reads at the speed of a copy on that card, and what the card took beside that for a step of one",
        "sequence: launches, gaps between kernels, the host. Two RTX 3090 get the H100's:",
        f"{pair.points.fixed * 1e3:.1f} ms, and {_reached(pair)} % of the bandwidth on the data sheet.",
        "",
        "| step | two RTX 3090 | one H100 | one H200 |",
        "| --- | --- | --- | --- |",
        *_estimates([pair, *measured]),
        "",
        "The same beside what was measured, at the sequences that decoded then: 12 in what the runs call 32, and 45",
        "in their 64 ([decision 0007](../docs/decisions/0007-decode-steps-on-gpus.md)).",
        "",
        "| step | H100: estimate, measured | H200: estimate, measured |",
        "| --- | --- | --- |",
        *_compared(measured),
        "",
        "The first row is measured as it is estimated because the estimate is made of it. Steps of 8, 12 and 45 took",
        "longer than it says. Where one of 32 takes as much longer as those of 8 and 45 did on the H100, two RTX",
        f"3090 make {_spread(pair)} tokens/s. [SIMULATION.md](SIMULATION.md) meets the measured steps and",
        "takes a line between two of them: there a step of 32 on two RTX 3090 takes",
        f"{pair.decode(32, 32 * 2048) * 1e3:.1f} ms, which is {32 / pair.decode(32, 32 * 2048):.0f} tokens/s.",
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
        "An estimate for two RTX 3090, if they multiply at the part of their data sheet that the H100 reached in",
        "such chunks, and the host needs as long as the H100's to launch each part:",
        "",
        "| step | 1 part | 2 parts | 4 parts |",
        "| --- | --- | --- | --- |",
        *_estimated_parts(pair),
        "",
    ]
    return "\n".join(lines)


def _steps() -> Iterator[str]:
    model = estimates.model()
    decoder = launches.lite(launches.configuration())
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


def _least() -> Iterator[str]:
    model = estimates.model()
    needs = [(f"decode, {batch} x {context}", model.decode(batch, context)) for batch, context in DECODE]
    needs += [(f"prefill, {tokens} behind {before}", model.prefill(tokens, before)) for tokens, before in PREFILL]
    for name, need in needs:
        cells = [f"{need.floor(*card) * 1e3:.1f} ms" for card in CARDS.values()]
        yield f"| {name} | {' | '.join(cells)} |"


def _estimates(boxes: Sequence[Card]) -> Iterator[str]:
    for batch, context in DECODE:
        took = [estimates.decode(card, batch, context) for card in boxes]
        cells = [f"{seconds * 1e3:.1f} ms: {batch / seconds:,.0f} tokens/s" for seconds in took]
        yield f"| decode, {batch} x {context} | {' | '.join(cells)} |"


def _compared(measured: Sequence[Card]) -> Iterator[str]:
    runs = committed().values()
    for step in MEASURED:
        cells = []
        for card, run in zip(measured, runs, strict=True):
            took = run.busy(step[0]) if step == PROFILED else run.step(*step)
            cells.append(f"{estimates.decode(card, *step) * 1e3:.1f} ms, {took * 1e3:.1f} ms")
        name = f"decode, {step[0]} x {step[1]}{', the device alone' if step == PROFILED else ''}"
        yield f"| {name} | {' | '.join(cells)} |"


def _in_parts() -> Iterator[str]:
    model = estimates.model()
    for step in PREFILL:
        cells = []
        for card in CARDS.values():
            floors = [
                [sum(model.chunk(*chunk).floor(*card) for chunk in part) for part in cut([step], count)]
                for count in IN_PARTS
            ]
            cells.append(", ".join(f"{1e3 * makespan(parts, 2):.1f}" for parts in floors) + " ms")
        yield f"| prefill, {step[0]} behind {step[1]} | {' | '.join(cells)} |"


def _reached(pair: Card) -> str:
    return f"{100 * pair.bandwidth / CARDS['RTX 3090'][0]:.0f}"


def _spread(pair: Card) -> str:
    fewest, most = estimates.slower(pair)
    return f"{fewest:.0f} to {most:.0f}"


def _estimated_parts(pair: Card) -> Iterator[str]:
    for tokens, before in PREFILL:
        took = [estimates.prompt(pair, tokens, before, count) for count in COUNTS]
        cells = [f"{seconds * 1e3:.0f} ms: {tokens / seconds:,.0f} tokens/s" for seconds in took]
        yield f"| prefill, {tokens} behind {before} | {' | '.join(cells)} |"


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
    print(f"{TARGET} is written. README's table of GPUs:", *table(), sep="\n")
