"""What a step costs outside the model: deciding, planning, sampling, emitting."""

from app.engine.kv.pages import PAGE_SIZE
from bench.machine import dtypes
from bench.model import SETTINGS
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import worker

TARGET_MS = 1.5
SEQUENCES, CONTEXT = 32, 200
STEPS = 200


def measure(run: Run) -> Finding:
    steps = run.sizes(STEPS, 20)
    rows: list[Row] = []
    lines: list[list[Cell]] = []
    parts: list[str] = []
    run.bar.total(len(dtypes()) * (1 + run.rounds))
    for dtype in dtypes():
        run.bar.say(f"{dtype}: loading")
        environment = SETTINGS | {"DTYPE": dtype}
        with worker("bench.workers.steps", str(PAGE_SIZE), name=f"step-{dtype}", environment=environment) as one:
            found = []
            for number in range(1 + run.rounds):  # the first one warms up
                run.bar.say(f"{dtype}: round {number} of {run.rounds}")
                found.append(one.ask(measure="own", batch=SEQUENCES, context=CONTEXT, steps=steps))
                run.bar.step()
        whole = Spread.of([1000 * each["seconds"] for each in found[1:]])
        parts = list(found[0]["parts"])
        medians = [Spread.of([1000 * each["parts"][part] for each in found[1:]]).median for part in parts]
        measured = f"a step's own cost outside the model, {SEQUENCES} greedy sequences, {dtype}"
        rows.append(Row(measure=measured, value=whole, target=TARGET_MS, bound="at most", unit="ms"))
        lines.append([dtype, whole.median, *medians])
    columns = ["ms", "the step", *parts]
    notes = [
        f"The median of {steps} steps of the product's runner, with logits that are there already.",
        "The parts are timed one by one; the rest of a step is deadlines, bookkeeping and metrics of the load.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
