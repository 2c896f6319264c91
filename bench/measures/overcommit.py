"""Growing answers that need three times the KV memory, against fewer places on the same memory."""

from collections import defaultdict
from contextlib import ExitStack
from typing import Any

from app.engine.kv.pages import PAGE_SIZE
from bench.model import SETTINGS, token_prompts
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.workers.pipe import worker

TARGET = 0.95
SEQUENCES = 32
ANSWER = 96
TIMES = 3
FIXED = (10, 14, 20)
"""MAX_SEQUENCES to compare with: ten answers of this length just fit, and more fit most of the time."""

ROOM, ALL = "memory for all", "all at once"


def measure(run: Run) -> Finding:
    count, tokens = run.sizes(SEQUENCES, 8), run.sizes(ANSWER, 64)
    asked = [token_prompts(questions(count, count * number)) for number in range(run.rounds)]
    longest = max(len(prompt) for prompts in asked for prompt in prompts) + tokens
    needed = count * -(-longest // PAGE_SIZE) * PAGE_SIZE
    short = SETTINGS | {"DTYPE": "float32", "KV_TOKENS": str(needed // TIMES)}
    settings = {
        ROOM: SETTINGS | {"DTYPE": "float32", "MAX_SEQUENCES": str(count)},
        ALL: short | {"MAX_SEQUENCES": str(count)},
        **{_name(places): short | {"MAX_SEQUENCES": str(places)} for places in (FIXED if not run.quick else (2,))},
    }
    told: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    run.bar.total(run.rounds * len(settings))
    run.bar.say(f"loading {len(settings)} engines")
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(
                worker("bench.workers.engine", name=f"overcommit-{number}", environment=environment)
            )
            for number, (name, environment) in enumerate(settings.items())
        }
        for number, prompts in enumerate(asked, start=1):
            for name, engine in engines.items():
                run.bar.say(f"{name}, round {number} of {run.rounds}")
                told[name].append(engine.ask(prompts=prompts, tokens=tokens))
                run.bar.step()
    return _finding(told, count, tokens, needed)


def _name(places: int) -> str:
    return f"{places} places"


def _finding(told: dict[str, list[dict[str, Any]]], count: int, tokens: int, needed: int) -> Finding:
    speeds = {name: [count * tokens / each["seconds"] for each in rounds] for name, rounds in told.items()}
    best = max((name for name in speeds if name not in {ROOM, ALL}), key=lambda name: Spread.of(speeds[name]).median)
    exact = {name: [_equal(one, all_) for one, all_ in zip(told[name], told[ROOM], strict=True)] for name in told}
    rows = [
        Row(
            measure=f"{count} growing answers in a third of the memory that they need, against {best}, tokens/s",
            value=Spread.of_ratios(speeds[ALL], speeds[best]),
            target=TARGET,
        ),
        Row(
            measure=f"{count} growing answers in a third of the memory that they need: exact",
            value=Spread.of(exact[ALL]),
            target=count,
            unit="answers",
        ),
    ]
    lines: list[list[Cell]] = [
        [name, Spread.of(speeds[name]).median, min(exact[name]), rounds[-1]["loads"][-1][3] // len(rounds)]
        for name, rounds in told.items()
    ]
    columns = ["", "tokens/s", f"exact of {count}, at least", "preemptions per round"]
    notes = [
        f"float32; {count} questions at once, {tokens} new tokens each, which need {needed:,} KV tokens in the end.",
        f"There are {needed // TIMES:,} of them, and in the first line as many as are needed.",
        "Exact are answers that have the same tokens as with memory for all.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> int:
    """How many answers are the same."""
    return sum(a == b for a, b in zip(one["answers"], other["answers"], strict=True))
