"""Our engine in a process of its own against transformers' `generate` on the same token prompts."""

import os
from contextlib import ExitStack

from bench.model import FOLDER, SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import Worker, worker

TARGET = 1.4
TOKENS = 64
BATCHES = (1, 4, 16, 32)
JUDGED = (1, 16, 32)


def measure(run: Run) -> Finding:
    tokens = run.sizes(TOKENS, 8)
    batches = BATCHES if not run.quick else (1, 4)
    # The round before the first warms up and chooses raw generate's threads; no prompt comes twice.
    rounds = run.rounds + 1
    prompts = iter(token_prompts(questions(rounds * sum(batches))))
    run.bar.total(3 * rounds * len(batches))
    speeds: dict[tuple[str, int], list[float]] = {}
    threads: dict[tuple[str, int], int] = {}
    with ExitStack() as stack:
        run.bar.say("loading three contestants")
        ours = stack.enter_context(worker("bench.workers.engine", name="engine", environment=SETTINGS))
        raw = {
            dtype: stack.enter_context(worker("bench.workers.generate", str(FOLDER), dtype, name=f"generate-{dtype}"))
            for dtype in ("bfloat16", "float32")
        }
        for number in range(rounds):
            for batch in batches:
                asked = [next(prompts) for _ in range(batch)]
                run.bar.say(f"batch {batch}: round {number} of {run.rounds}")
                seconds = {"engine": ours.ask(prompts=asked, tokens=tokens)["seconds"]}
                run.bar.step()
                for dtype, contestant in raw.items():
                    if number == 0:
                        threads[dtype, batch] = _best_threads(contestant, asked, tokens)
                    told = contestant.ask(prompts=asked, tokens=tokens, threads=threads[dtype, batch])
                    seconds[dtype] = told["seconds"]
                    run.bar.step()
                for name, took in seconds.items():
                    if number > 0:
                        speeds.setdefault((name, batch), []).append(batch * tokens / took)
        loading = str(ours.ready["loading"])
    return _finding(speeds, threads, batches, loading)


def _best_threads(contestant: Worker, prompts: list[list[int]], tokens: int) -> int:
    """One thread per core, or fewer if that is faster: for one sequence it may be."""
    cores = len(os.sched_getaffinity(0))
    choices = sorted({1, max(1, cores // 2), cores}, reverse=True)
    contestant.ask(prompts=prompts, tokens=2, threads=cores)  # the first call pays for what libraries do once
    took = {n: contestant.ask(prompts=prompts, tokens=tokens, threads=n)["seconds"] for n in choices}
    return min(took, key=lambda n: took[n])


def _finding(
    speeds: dict[tuple[str, int], list[float]],
    threads: dict[tuple[str, int], int],
    batches: tuple[int, ...],
    loading: str,
) -> Finding:
    rows, lines = [], []
    for batch in batches:
        ours = speeds["engine", batch]
        ratios = {dtype: Spread.of_ratios(ours, speeds[dtype, batch]) for dtype in ("bfloat16", "float32")}
        rows.append(
            Row(
                measure=f"engine directly against raw `generate` in bfloat16, batch {batch}, output tokens/s",
                value=ratios["bfloat16"],
                target=TARGET if batch in JUDGED else None,
            )
        )
        line: list[Cell] = [batch, Spread.of(ours).median]
        for dtype, ratio in ratios.items():
            line += [Spread.of(speeds[dtype, batch]).median, threads[dtype, batch], ratio.median]
        lines.append(line)
    columns = ["batch", "engine, tokens/s"]
    for dtype in ("bfloat16", "float32"):
        columns += [f"`generate` {dtype}, tokens/s", "its threads", "ratio"]
    notes = [
        f"The engine loaded {loading}.",
        f"{TOKENS} new tokens per prompt, greedily, prefill included; both got the same prompts, none of them twice.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
