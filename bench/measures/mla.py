"""Attention in latent space against the stock layer, at DeepSeek-Coder-V2-Lite's real dimensions."""

from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import worker

TARGET = 30.0
BATCH, LENGTH = 8, 4096
REPEATS = 3  # steps of a layer in a row; the best counts


def measure(run: Run) -> Finding:
    length = run.sizes(LENGTH, 512)
    rows, lines = [], []
    run.bar.total(2 * run.rounds)
    for dtype in ("float32", "bfloat16"):
        run.bar.say(dtype)
        stock, absorbed = [], []
        with worker("bench.workers.attention", dtype, str(BATCH), str(length), name=f"attention-{dtype}") as layers:
            for _ in range(run.rounds):
                stock.append(layers.ask(kind="stock", repeats=REPEATS)["seconds"])
                absorbed.append(layers.ask(kind="absorbed", repeats=REPEATS)["seconds"])
                run.bar.step()
            ratio = Spread.of_ratios(stock, absorbed)
            line: list[Cell] = [dtype, 1000 * Spread.of(stock).median, 1000 * Spread.of(absorbed).median]
            lines.append([*line, ratio.median, layers.ready["difference"]])
        rows.append(
            Row(
                measure=f"absorbed MLA against the stock layer, batch {BATCH}, {length:,} cached tokens, {dtype}",
                value=ratio,
                target=TARGET,
            )
        )
    columns = ["dtype", "stock, ms", "absorbed, ms", "ratio", "relative difference of the outputs"]
    notes = [
        "One decode step of one attention layer with random weights; both layers see the same cache with room.",
        f"The best of {REPEATS} steps in a row, per layer and round.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
