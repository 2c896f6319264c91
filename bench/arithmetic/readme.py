"""README's table of GPUs: what was wanted, what committed runs measured, and what two RTX 3090 are estimated to do.

A test holds README to it; `python -m bench.arithmetic` prints it.
"""

from collections.abc import Callable, Mapping, Sequence

from bench.arithmetic import estimates, launches
from bench.arithmetic.runs import SAME_LENGTHS, Run, committed
from bench.simulation.cards import Card, cards

CONTEXT, PROFILED = SAME_LENGTHS, 512
CHUNK, BEFORE = 2048, (0, 8192)
ONE, MANY = 1, 32  # users
PARTS = 4  # the most that the engine tries
PEAK = 0.98

Line = tuple[str, str, Sequence[str], str]
"""(what, what was wanted, the H100's, the H200's and the pair's figure, whether it was held)."""


def table() -> list[str]:
    pair, *measured = cards()
    runs = committed()
    by_name = dict(zip(runs, measured, strict=True))
    lines = [*_speeds(runs, pair), *_ratios(runs, by_name), *_counts(runs)]
    head = ["contexts of 2,048 tokens", "wanted", "H100", "H200", "two RTX 3090, estimated", "held"]
    rows = [head, ["---"] * len(head), *([what, wanted, *cells, held] for what, wanted, cells, held in lines)]
    return [f"| {' | '.join(row)} |" for row in rows]


def _speeds(runs: Mapping[str, Run], pair: Card) -> list[Line]:
    """Tokens per second."""
    lines: list[Line] = []
    for users, wanted, what in ((ONE, 100, "one user: tokens/s"), (MANY, 800, "32 users together: tokens/s")):
        estimate = users / estimates.decode(pair, users, CONTEXT)
        cells = [
            _number(users / run.step(users, CONTEXT)) if users == ONE else "not measured" for run in runs.values()
        ]
        least = estimate if users == ONE else min(estimates.slower(pair))
        held = "by the estimate" if least >= wanted else "**uncertain**"
        lines.append((what, f"≥ {wanted} on two RTX 3090", [*cells, _number(estimate)], held))
    short = [run.busy(MANY) for run in runs.values()] + [estimates.decode(pair, MANY, PROFILED)]
    cells = [_number(MANY / seconds) for seconds in short]
    lines.append(("32 users at contexts of 512, by the card's work alone: tokens/s", "–", cells, "–"))
    chunks = [[run.chunk(CHUNK, before) for before in BEFORE] for run in runs.values()]
    chunks.append([estimates.prompt(pair, CHUNK, before, PARTS) for before in BEFORE])
    cells = ["; ".join(_number(CHUNK / seconds) for seconds in each) for each in chunks]
    lines.append(("2,048 tokens of a prompt behind 0; behind 8,192: tokens/s", "–", cells, "–"))
    return lines


def _ratios(runs: Mapping[str, Run], measured: Mapping[str, Card]) -> list[Line]:
    def times(users: int, context: int, took: Callable[[Run], float]) -> dict[str, float]:
        return {name: took(run) / estimates.least(measured[name], users, context) for name, run in runs.items()}

    one = times(ONE, CONTEXT, lambda run: run.step(ONE, CONTEXT))
    short = times(MANY, PROFILED, lambda run: run.busy(MANY))
    faster = [
        {name: run.generate(ONE) / run.step(ONE, CONTEXT) for name, run in runs.items()},
        {name: run.generate(MANY) / run.busy(MANY) for name, run in runs.items()},
    ]
    used = [
        {
            name: estimates.model().prefill(CHUNK, before).flops / run.chunk(CHUNK, before) / run.flops
            for name, run in runs.items()
        }
        for before in BEFORE
    ]
    return [
        (
            "a step for one user, by the least that the memory allows",
            "≤ 2.5 times, aim 1.7",
            [*(f"{one[name]:.1f}" for name in runs), "–"],
            f"{_held(one, most=2.5)}, the aim {_held(one, most=1.7)}",
        ),
        (
            "a step for 32 at contexts of 512, likewise, by the card's work alone",
            "≤ 1.5 times",
            [*(f"{short[name]:.1f}" for name in runs), "–"],
            f"{_held(short, most=1.5)}, there",
        ),
        (
            "tokens/s by those of transformers' `generate`: one user; 32 as above",
            "≥ 4; ≥ 1.5 times",
            [*("; ".join(f"{each[name]:.1f}" for each in faster) for name in runs), "–"],
            f"{_held(faster[0], least=4)}; {_held(faster[1], least=1.5)}",
        ),
        (
            "2,048 tokens of a prompt behind 0; behind 8,192, by a matrix product's speed",
            "≥ 35 %",
            [*("; ".join(f"{100 * each[name]:.0f} %" for each in used) for name in runs), "–"],
            f"{_held(used[0], least=0.35)}; {_held(used[1], least=0.35)}",
        ),
    ]


def _counts(runs: Mapping[str, Run]) -> list[Line]:
    layer = launches.count(launches.lite(launches.configuration()), launches.decode_step([CONTEXT])).in_a_layer
    whole = {name: float(run.launches(MANY)) for name, run in runs.items()}
    waits = {name: float(run.waits(MANY)) for name, run in runs.items()}
    peaks = {name: run.reserved for name, run in runs.items()}
    return [
        (
            "launches of a layer, counted; of a whole step without graphs",
            "≤ 16; ≤ 500",
            [*(f"{layer}; {whole[name]:.0f}" for name in runs), "–"],
            f"{_held({'all': float(layer)}, most=16)}; {_held(whole, most=500)}",
        ),
        (
            "waits of a step for the card; copies that block",
            "1; 0",
            [*(f"{waits[name]:.0f}; not counted" for name in runs), "–"],
            f"{_held(waits, most=1)}; by tests",
        ),
        (
            "peak of the memory, by what the plan could give out",
            "within 2 %, not above",
            [*(f"{100 * peaks[name]:.2f} %" for name in runs), "–"],
            _held(peaks, least=PEAK, most=1),
        ),
    ]


def _held(values: Mapping[str, float], *, least: float = float("-inf"), most: float = float("inf")) -> str:
    """Of the figures as they were measured, and not as they are rounded."""
    missed = [name for name, value in values.items() if not least <= value <= most]
    if not missed:
        return "yes"
    return "**missed**" if len(missed) == len(values) else f"**missed on the {missed[0]}**"


def _number(value: float) -> str:
    """Three digits."""
    return f"{float(f'{value:.3g}'):,.0f}"
