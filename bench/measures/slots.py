"""The engine against the commit before KV memory came by pages, each in a process of its own."""

from collections import defaultdict
from contextlib import ExitStack

from bench.machine import dtypes
from bench.model import SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.earlier import files_of
from bench.workers.pipe import worker
from stack.config import ROOT

TARGET = 0.97
COMMIT = "2aec484"
"""The last one whose KV cache had a slot of the whole length for each request."""

TOKENS = 40
BATCHES = (1, 4, 16, 32)
PAGES, SLOTS = "pages", "slots"


def measure(run: Run) -> Finding:
    tokens, batches = run.sizes(TOKENS, 8), BATCHES if not run.quick else (1, 4)
    prompts = iter(token_prompts(questions((1 + run.rounds) * sum(batches) * len(dtypes()))))  # each is asked once
    folders = {PAGES: ROOT, SLOTS: files_of(COMMIT)}
    run.bar.total(len(dtypes()) * (1 + run.rounds) * len(batches))
    speeds: defaultdict[tuple[str, str, int], list[float]] = defaultdict(list)
    for dtype in dtypes():
        run.bar.say(f"{dtype}: loading both engines")
        environment = SETTINGS | {"DTYPE": dtype}
        with ExitStack() as stack:
            engines = {
                name: stack.enter_context(
                    worker("bench.workers.engine", name=f"{name}-{dtype}", environment=environment, folder=folder)
                )
                for name, folder in folders.items()
            }
            for number in range(1 + run.rounds):  # the first one warms up
                for batch in batches:
                    run.bar.say(f"{dtype}, batch {batch}, round {number} of {run.rounds}")
                    asked = [next(prompts) for _ in range(batch)]
                    for name in sorted(engines, reverse=bool(number % 2)):  # each goes first in half of the rounds
                        took = engines[name].ask(prompts=asked, tokens=tokens)["seconds"]
                        if number:
                            speeds[name, dtype, batch].append(batch * tokens / took)
                    run.bar.step()
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
    notes = [f"{tokens} new tokens per prompt, greedily, prefill included; the same prompts for both, none twice."]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
