"""KV memory that is allocated and holds no token, with sequences of mixed lengths."""

import random

from app.engine.kv.pages import PAGE_SIZE
from bench.measures.kv_loads import most_beside
from bench.model import SETTINGS
from bench.results import Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import worker

TARGET = 1.0  # pages
SEQUENCES = 32
SHORTEST, LONGEST = 5, 400  # tokens of a prompt
ANSWER = 72
TOKENS = range(100, 40_000)  # of any text


def measure(run: Run) -> Finding:
    count, longest = run.sizes(SEQUENCES, 4), run.sizes(LONGEST, 100)
    chance = random.Random(0)
    wasted, needed = [], []
    run.bar.total(run.rounds)
    run.bar.say("loading the engine")
    with worker("bench.workers.engine", name="engine", environment=SETTINGS) as engine:
        for number in range(run.rounds):
            run.bar.say(f"round {number + 1} of {run.rounds}")
            lengths = [chance.randint(SHORTEST, longest) for _ in range(count)]
            prompts = [chance.choices(TOKENS, k=length) for length in lengths]  # with no prefix in common
            told = engine.ask(prompts=prompts, tokens=ANSWER)
            wasted.append(most_beside(told, lengths))
            needed.append(sum(lengths) + count * ANSWER)
            run.bar.step()
    row = Row(
        measure=f"KV tokens allocated and unused, {count} sequences of mixed lengths, pages per sequence",
        value=Spread.of([tokens / PAGE_SIZE / count for tokens in wasted]),
        target=TARGET,
        bound="at most",
        unit="pages",
    )
    lines = [
        [label, spread.median, spread.low, spread.high]
        for label, spread in (
            ("allocated and unused, the most while all run", Spread.of(wasted)),
            ("needed at the end", Spread.of(needed)),
        )
    ]
    notes = [f"Prompts of {SHORTEST} to {longest} tokens and answers of {ANSWER}; a page has {PAGE_SIZE}."]
    columns = ["tokens", "median", "lowest", "highest"]
    return Finding(rows=[row], table=Table(columns=columns, rows=lines), notes=notes)
