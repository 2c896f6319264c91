"""Pages of 16, 32 and 64 tokens side by side."""

from collections import defaultdict
from contextlib import ExitStack

from app.engine.kv.pages import PAGE_SIZE
from bench.model import SETTINGS
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import worker

SIZES = (16, 32, 64)
CONTEXT = 1000  # tokens
KV_TOKENS = 40_960
STEPS = {1: 40, 32: 12}
"""By batch size: how many decode steps a round has."""


def measure(run: Run) -> Finding:
    context = run.sizes(CONTEXT, 100)
    kinds = {
        **{
            f"decode step, batch {batch}": {"measure": "decode", "batch": batch, "context": context, "steps": steps}
            for batch, steps in STEPS.items()
        },
        f"prompt of {context:,} tokens": {"measure": "prefill", "length": context},
    }
    environment = SETTINGS | {"KV_TOKENS": str(run.sizes(KV_TOKENS, 4096))}
    took: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    run.bar.total((1 + run.rounds) * len(kinds))
    run.bar.say("loading the model three times")
    with ExitStack() as stack:
        workers = {
            size: stack.enter_context(
                worker("bench.workers.steps", str(size), name=f"pages-of-{size}", environment=environment)
            )
            for size in SIZES
        }
        for number in range(1 + run.rounds):  # the first one warms up
            for kind, question in kinds.items():
                run.bar.say(f"{kind}, round {number} of {run.rounds}")
                for size, one in workers.items():
                    seconds = one.ask(**question)["seconds"]
                    if number:
                        took[kind, size].append(seconds)
                run.bar.step()
        dtype = workers[PAGE_SIZE].ready["dtype"]
    rows = [
        Row(
            measure=f"pages of {size} tokens against {PAGE_SIZE}: time of a {kind}",
            value=Spread.of_ratios(took[kind, size], took[kind, PAGE_SIZE]),
        )
        for kind in kinds
        for size in SIZES
        if size != PAGE_SIZE
    ]
    lines: list[list[Cell]] = [
        [kind, *(1000 * Spread.of(took[kind, size]).median for size in SIZES)] for kind in kinds
    ]
    columns = ["ms", *(f"pages of {size}" for size in SIZES)]
    notes = [f"{dtype}; decode steps have a context of about {context:,} tokens in each sequence."]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
