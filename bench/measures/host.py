"""The host's share of a GPU's step: what the event loop and the inference thread take from each other."""

import asyncio
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack

from bench.errors import Failed
from bench.load.ask import Chat
from bench.load.loop import closed_loop
from bench.model import SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.gateway import App
from bench.servers.played import played_app
from bench.workers.pipe import Worker, worker
from bench.workers.played_app import AFTER_LAUNCH, BEFORE_LAUNCH, SECONDS, TOLD

STREAMS = 32
TOKENS = 300
DEVICES = {10: "an H100, 32 sequences", 33: "two RTX 3090, by arithmetic"}
"""Milliseconds of a step on the device, and what takes so long."""

_ALONE = "the engine alone"
_CONTESTANTS = (_ALONE, AFTER_LAUNCH, BEFORE_LAUNCH)


def measure(run: Run) -> Finding:
    rows: list[Row] = []
    lines: list[list[Cell]] = []
    run.bar.total(len(DEVICES) * (1 + run.rounds))
    texts = iter(questions(len(DEVICES) * (1 + run.rounds) * STREAMS))
    for milliseconds, card in DEVICES.items():
        steps = _steps(run, milliseconds, texts)
        rows += [_row(milliseconds, told, steps) for told in (AFTER_LAUNCH, BEFORE_LAUNCH)]
        lines.append([f"{milliseconds} ms: {card}", *(Spread.of(steps[name]).median for name in _CONTESTANTS)])
    columns = ["a step on the device", f"{_ALONE}, ms", *(f"the app, told {told}, ms" for told in _CONTESTANTS[1:])]
    notes = [
        "The GPU is played: launching a step is as many small operations as a captured one's, and the rest a wait.",
        f"A step is a token of each of {STREAMS} answers, from the first to the last of {TOKENS}.",
        "Tokens are told to the event loop after or before the launch of the next step: the product does the first.",
        "The clients run on the same cores, without nginx.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)


def _steps(run: Run, milliseconds: int, texts: Iterator[str]) -> dict[str, list[float]]:
    """Milliseconds of a step in each round, of each contestant."""
    steps: dict[str, list[float]] = {name: [] for name in _CONTESTANTS}
    tokens = run.sizes(TOKENS, 8)
    settings = SETTINGS | {SECONDS: str(milliseconds / 1000), "MAX_SEQUENCES": str(STREAMS)}
    run.bar.say("starting")
    with ExitStack() as stack:
        alone = stack.enter_context(_engine(settings))
        apps = [
            stack.enter_context(played_app(f"played-{number}", settings | {TOLD: told}))
            for number, told in enumerate(_CONTESTANTS[1:])
        ]
        for number in range(1 + run.rounds):  # the first one warms up
            run.bar.say(f"steps of {milliseconds} ms, round {number} of {run.rounds}")
            asked = [next(texts) for _ in range(STREAMS)]
            took = [_alone(alone, asked, tokens), *(_through(app, asked, tokens) for app in apps)]
            for name, step in zip(steps, took, strict=True):
                steps[name] += [step] if number else []
            run.bar.step()
    return steps


def _engine(settings: Mapping[str, str]) -> AbstractContextManager[Worker]:
    return worker("bench.workers.played_app", name="played", environment={**settings, TOLD: AFTER_LAUNCH})


def _alone(engine: Worker, texts: list[str], tokens: int) -> float:
    came = engine.ask(prompts=token_prompts(texts), tokens=tokens)["came"]
    return _step([(each[0], each[-1]) for each in came], tokens)


def _through(app: App, texts: list[str], tokens: int) -> float:
    outcomes = asyncio.run(closed_loop(Chat(app.base, SETTINGS["MODEL"], tokens), texts, len(texts)))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise Failed(f"{len(errors)} errors: {errors[0]}")
    return _step([(each.pieces[0], each.pieces[-1]) for each in outcomes], tokens)


def _step(spans: Sequence[tuple[float, float]], tokens: int) -> float:
    """Milliseconds, of the moments when the first and the last of so many tokens came."""
    return statistics.median(1000 * (last - first) / (tokens - 1) for first, last in spans)


def _row(milliseconds: int, told: str, steps: dict[str, list[float]]) -> Row:
    ratios = [step / alone for step, alone in zip(steps[told], steps[_ALONE], strict=True)]
    return Row(
        measure=f"{STREAMS} streams through the app, a device with steps of {milliseconds} ms, tokens told {told}: a "
        "step by one of the engine alone",
        value=Spread.of(ratios),
        unit="times",
    )
