"""Our engine in a process of its own against transformers' `generate` on the same token prompts."""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from bench.model import FOLDER, SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import Worker, worker

TARGET = 1.4
TOKENS = 64
BATCHES = (1, 4, 16, 32)
JUDGED = (1, 16, 32)
RAW = ("bfloat16", "float32")  # the second has no target: one round of it is enough

Speeds = Mapping[tuple[str, int], list[float]]
"""Output tokens/s of each round, by contestant and batch size."""

Threads = Mapping[tuple[str, int], int]
"""The number of threads that raw generate is fastest with, by dtype and batch size."""


def measure(run: Run) -> Finding:
    tokens = run.sizes(TOKENS, 8)
    batches = BATCHES if not run.quick else (1, 4)
    prompts = iter(token_prompts(questions((run.rounds + 1) * sum(batches))))  # each is asked once
    run.bar.total(len(batches) * (2 * run.rounds + len(RAW)))
    run.bar.say("loading three contestants")
    speeds: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    with _contestants() as contestants:
        run.bar.say("warming up, and choosing raw generate's threads")
        threads: dict[tuple[str, int], int] = {}
        for batch in batches:
            asked = [next(prompts) for _ in range(batch)]
            contestants["engine"].ask(prompts=asked, tokens=tokens)
            for dtype in RAW:
                threads[dtype, batch] = _best_threads(contestants[dtype], asked, tokens)
            run.bar.step()
        for number in range(run.rounds):
            for batch in batches:
                asked = [next(prompts) for _ in range(batch)]
                for name in ("engine", *(RAW if number == 0 else RAW[:1])):
                    run.bar.say(f"{name}, batch {batch}, round {number + 1} of {run.rounds}")
                    settings = {} if name == "engine" else {"threads": threads[name, batch]}
                    took = contestants[name].ask(prompts=asked, tokens=tokens, **settings)["seconds"]
                    speeds[name, batch].append(batch * tokens / took)
                    run.bar.step()
        loading = contestants["engine"].ready["loading"]
    notes = [
        f"The engine loaded {loading}.",
        f"{tokens} new tokens per prompt, greedily, prefill included; the same prompts for all, none of them twice.",
    ]
    return Finding(rows=_rows(speeds, batches), table=_table(speeds, threads, batches), notes=notes)


@contextmanager
def _contestants() -> Iterator[dict[str, Worker]]:
    with ExitStack() as stack:
        ours = stack.enter_context(worker("bench.workers.engine", name="engine", environment=SETTINGS))
        raw = {
            dtype: stack.enter_context(worker("bench.workers.generate", str(FOLDER), dtype, name=f"generate-{dtype}"))
            for dtype in RAW
        }
        yield {"engine": ours, **raw}


def _best_threads(contestant: Worker, prompts: list[list[int]], tokens: int) -> int:
    """One thread per core, or fewer if that is faster: for one sequence it may be."""
    cores = len(os.sched_getaffinity(0))
    contestant.ask(prompts=prompts, tokens=2, threads=cores)  # the first call includes what libraries do once
    numbers = sorted({1, max(1, cores // 2), cores}, reverse=True)
    took = {n: contestant.ask(prompts=prompts, tokens=tokens, threads=n)["seconds"] for n in numbers}
    return min(took, key=lambda n: took[n])


def _rows(speeds: Speeds, batches: Sequence[int]) -> list[Row]:
    return [
        Row(
            measure=f"engine directly against raw `generate` in bfloat16, batch {batch}, output tokens/s",
            value=_ratio(speeds, "bfloat16", batch),
            target=TARGET if batch in JUDGED else None,
        )
        for batch in batches
    ]


def _table(speeds: Speeds, threads: Threads, batches: Sequence[int]) -> Table:
    columns = ["batch", "engine, tokens/s"]
    for dtype in RAW:
        columns += [f"`generate` {dtype}, tokens/s", "its threads", "ratio"]
    lines: list[list[Cell]] = []
    for batch in batches:
        line: list[Cell] = [batch, Spread.of(speeds["engine", batch]).median]
        for dtype in RAW:
            median = Spread.of(speeds[dtype, batch]).median
            line += [median, threads[dtype, batch], _ratio(speeds, dtype, batch).median]
        lines.append(line)
    return Table(columns=columns, rows=lines)


def _ratio(speeds: Speeds, dtype: str, batch: int) -> Spread:
    theirs = speeds[dtype, batch]
    return Spread.of_ratios(speeds["engine", batch][: len(theirs)], theirs)
