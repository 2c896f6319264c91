"""The engine against the commit before KV memory came by pages, each in a process of its own.

Each pair of processes first computes unmeasured: the engine with slots copies its KV memory, to let it grow and
shrink, until enough prefixes are cached, and until then it is slower. Where the system puts a process's weights makes
a difference for as long as it lives, so there are several pairs.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.machine import dtypes
from bench.model import SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.earlier import files_of
from bench.workers.pipe import Worker, worker
from stack.config import ROOT

TARGET = 0.97
COMMIT = "2aec484"
"""The last one whose KV cache had a slot of the whole length for each request."""

TOKENS = 40
TURNS = {1: 4, 4: 2, 16: 1, 32: 1}
"""How often each engine computes a batch in a round, one engine after the other: one sequence takes a second."""

PAIRS, WARM_UP = 2, 3
"""Pairs of processes, and rounds of each that are not measured."""

PAUSE = 0.4
"""Seconds after each answer: what an engine does when it has nothing to compute must not slow the other."""

PAGES, SLOTS = "pages", "slots"

Speeds = defaultdict[tuple[str, str, int], list[float]]
"""Output tokens per second in each round, by engine, type and batch."""


def measure(run: Run) -> Finding:
    turns = TURNS if not run.quick else {1: 1, 4: 1}
    tokens, pairs, warm_up = run.sizes(TOKENS, 8), run.sizes(PAIRS, 1), run.sizes(WARM_UP, 1)
    rounds = pairs * (warm_up + run.rounds) * len(dtypes())
    asked = sum(batch * count for batch, count in turns.items())
    prompts = iter(token_prompts(questions(rounds * asked)))  # each is asked once
    run.bar.total(rounds)
    speeds: Speeds = defaultdict(list)
    for dtype in dtypes():
        for pair in range(pairs):
            run.bar.say(f"{dtype}: loading both engines")
            with _both(dtype, pair) as engines:
                for number in range(warm_up + run.rounds):
                    run.bar.say(f"{dtype}, pair {pair + 1} of {pairs}, round {number + 1} of {warm_up + run.rounds}")
                    for batch, count in turns.items():
                        asks = [[next(prompts) for _ in range(batch)] for _ in range(count)]
                        took = _seconds(engines, asks, tokens, first=pair + number)
                        if number < warm_up:
                            continue
                        for name, seconds in took.items():
                            speeds[name, dtype, batch].append(count * batch * tokens / seconds)
                    run.bar.step()
    return _finding(speeds, list(turns), tokens)


@contextmanager
def _both(dtype: str, pair: int) -> Iterator[dict[str, Worker]]:
    """Each is loaded first in half of the pairs."""
    environment = SETTINGS | {"DTYPE": dtype}
    folders = {PAGES: ROOT, SLOTS: files_of(COMMIT)}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                worker("bench.workers.engine", name=f"{name}-{dtype}", environment=environment, folder=folder)
            )
            for name, folder in sorted(folders.items(), reverse=bool(pair % 2))
        }


def _seconds(engines: dict[str, Worker], asks: list[list[list[int]]], tokens: int, *, first: int) -> dict[str, float]:
    """Of each engine, for all batches of prompts together. `first` is even or odd, by who begins."""
    took = dict.fromkeys(engines, 0.0)
    for turn, prompts in enumerate(asks):
        for name in sorted(engines, reverse=bool((first + turn) % 2)):
            took[name] += engines[name].ask(prompts=prompts, tokens=tokens)["seconds"]
            time.sleep(PAUSE)
    return took


def _finding(speeds: Speeds, batches: list[int], tokens: int) -> Finding:
    rows, lines = [], []
    for dtype in dtypes():
        for batch in batches:
            ours, theirs = speeds[PAGES, dtype, batch], speeds[SLOTS, dtype, batch]
            ratio = Spread.of_ratios(ours, theirs)
            measured = f"the engine with pages against {COMMIT} with slots, batch {batch}, {dtype}, output tokens/s"
            rows.append(Row(measure=measured, value=ratio, target=TARGET))
            line: list[Cell] = [dtype, batch, Spread.of(ours).median, Spread.of(theirs).median, ratio.median]
            lines.append(line)
    columns = ["type", "batch", "with pages, tokens/s", "with slots, tokens/s", "ratio"]
    notes = [
        f"{tokens} new tokens per prompt, greedily, prefill included; the same prompts for both, none twice.",
        "A round has several turns at batch 1 and 4, whose times are added; half of the rounds have other processes.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
