"""The longest pause of running streams while a long prompt arrives."""

from itertools import chain, pairwise
from typing import Any

from bench.errors import Failed
from bench.model import SETTINGS, token_prompts
from bench.prompts import conversation, questions
from bench.results import Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import Worker, worker

TARGET = 1.5
STREAMS = 8
PROMPT = 4000  # tokens
LONGEST = 256  # tokens of a stream: they must outlast the prompt


def measure(run: Run) -> Finding:
    length = run.sizes(PROMPT, 600)
    run.bar.total(1 + run.rounds)
    run.bar.say("loading the engine")
    found = []
    with worker("bench.workers.engine", name="engine", environment=SETTINGS) as engine:
        for number in range(1 + run.rounds):  # the first one warms up
            run.bar.say(f"round {number} of {run.rounds}")
            found.append(_round(engine, number, length))
            run.bar.step()
    ratios = [each["gap"] / (each["chunk"] + each["step"]) for each in found[1:]]
    row = Row(
        measure=f"worst gap of {STREAMS} streams while a {length:,}-token prompt arrives, by one chunk and one step",
        value=Spread.of(ratios),
        target=TARGET,
        bound="at most",
    )
    columns = ["", "median, ms", "lowest", "highest"]
    lines = []
    for name, label in NAMES.items():
        spread = Spread.of([1000 * each[name] for each in found[1:]])
        lines.append([label, spread.median, spread.low, spread.high])
    notes = [
        "In the engine's process, without HTTP: a stream over HTTP may hold a token back until its text is whole.",
        "The slowest chunk is the reference, because a chunk takes longer the more tokens are before it.",
    ]
    return Finding(rows=[row], table=Table(columns=columns, rows=lines), notes=notes)


NAMES = {
    "gap": "worst gap between two tokens while the prompt arrives",
    "chunk": "slowest chunk of such a prompt, beside one stream",
    "typical_chunk": "median chunk of such a prompt, beside one stream",
    "step": f"median step of {STREAMS} streams, computed alone",
    "prompt": "the prompt's time to its first token beside the streams",
}


def _round(engine: Worker, number: int, length: int) -> dict[str, float]:
    """Three runs: the prompt beside one stream, the streams alone, both together. Seconds."""
    texts = (conversation(length, seed=2 * number + n) for n in range(2))
    alone, beside = (each[:length] for each in token_prompts([" ".join(chain(*turns)) for turns in texts]))
    short = token_prompts(questions(2 * STREAMS + 1, (2 * STREAMS + 1) * number))
    # Beside one stream, because with none at all a chunk is larger.
    chunks = _durations(engine.ask(prompts=short[:1], tokens=LONGEST, late=alone), "prefill")[1:]
    steps = _durations(engine.ask(prompts=short[1 : STREAMS + 1], tokens=32), "decode")
    both = engine.ask(prompts=short[STREAMS + 1 :], tokens=LONGEST, late=beside)
    begun, ended = both["late"]
    if min(came[-1] for came in both["came"]) < ended:
        raise Failed("the streams ended before the prompt had arrived")
    around = [pair for came in both["came"] for pair in pairwise(came) if begun < pair[1] and pair[0] < ended]
    return {
        "gap": max(after - before for before, after in around),
        "chunk": max(chunks),
        "typical_chunk": Spread.of(chunks).median,
        "step": Spread.of(steps).median,
        "prompt": ended - begun,
    }


def _durations(told: dict[str, Any], kind: str) -> list[float]:
    return [seconds for of, _, seconds in told["steps"] if of == kind]
