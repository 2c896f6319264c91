"""The engine against the commit before KV memory came by pages, each in a process of its own.

Each round has new processes: where the system puts a process's weights makes up to 3 % at batch 1, for as long as the
process lives.
"""

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

PAGES, SLOTS = "pages", "slots"


def measure(run: Run) -> Finding:
    turns = TURNS if not run.quick else {1: 1, 4: 1}
    sizes = run.sizes(TOKENS, 8)
    asked = sum(batch * (1 + count) for batch, count in turns.items())
    prompts = iter(token_prompts(questions(asked * run.rounds * len(dtypes()))))  # each is asked once
    run.bar.total(len(dtypes()) * run.rounds)
    speeds: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for dtype in dtypes():
        for number in range(run.rounds):
            run.bar.say(f"{dtype}, round {number + 1} of {run.rounds}")
            with _both(dtype, number) as engines:
                for batch in turns:  # warms up
                    _seconds(engines, [next(prompts) for _ in range(batch)], sizes, number)
                for batch, count in turns.items():
                    took: defaultdict[str, float] = defaultdict(float)
                    for turn in range(count):
                        some = [next(prompts) for _ in range(batch)]
                        for name, seconds in _seconds(engines, some, sizes, number + turn).items():
                            took[name] += seconds
                    for name, seconds in took.items():
                        speeds[name, dtype, batch].append(count * batch * sizes / seconds)
            run.bar.step()
    return _finding(speeds, list(turns), sizes)


@contextmanager
def _both(dtype: str, number: int) -> Iterator[dict[str, Worker]]:
    """Each is loaded first in half of the rounds."""
    environment = SETTINGS | {"DTYPE": dtype}
    folders = {PAGES: ROOT, SLOTS: files_of(COMMIT)}
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                worker("bench.workers.engine", name=f"{name}-{dtype}", environment=environment, folder=folder)
            )
            for name, folder in sorted(folders.items(), reverse=bool(number % 2))
        }


def _seconds(engines: dict[str, Worker], prompts: list[list[int]], tokens: int, turn: int) -> dict[str, float]:
    """Of each engine. Each goes first in half of the turns."""
    names = sorted(engines, reverse=bool(turn % 2))
    return {name: engines[name].ask(prompts=prompts, tokens=tokens)["seconds"] for name in names}


def _finding(speeds: dict[tuple[str, str, int], list[float]], batches: list[int], tokens: int) -> Finding:
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
        "Each round has new processes, and at batch 1 and 4 several turns, whose times are added.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
