"""Measures servers in turns, under the load of several clients."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from bench.errors import Failed
from bench.load.ask import Ask
from bench.load.loop import closed_loop
from bench.load.outcome import Figures, Outcome, figures
from bench.prompts import questions
from bench.results import Cell, Spread, Table
from bench.run import Run

Count = Callable[[Sequence[Outcome]], Sequence[Outcome]]


@dataclass(frozen=True, slots=True)
class Contestant:
    """`requests(clients)` is the number per round: enough for a steady state, and no more for a slow server."""

    ask: Ask
    requests: Callable[[int], int]
    counted: Count = lambda outcomes: outcomes  # a default, not a name


Measured = dict[tuple[str, int], list[Figures]]
"""The figures of each round, by contestant and number of clients."""


def take_turns(contestants: Mapping[str, Contestant], levels: Sequence[int], run: Run) -> Measured:
    """Every contestant at every level, in every round. Raises Failed."""
    run.bar.total((1 + run.rounds * len(levels)) * len(contestants))
    start = 4  # no question is asked twice of the same server
    measured: Measured = {}
    for name, contestant in contestants.items():
        run.bar.say(f"{name}: warming up")
        _load(name, contestant, 2, 4, 0)
        run.bar.step()
    for number in range(run.rounds):
        for clients in levels:
            for name, contestant in contestants.items():
                run.bar.say(f"{name}: {clients} clients, round {number + 1} of {run.rounds}")
                requests = run.sizes(contestant.requests(clients), clients)
                found = _load(name, contestant, clients, requests, start)
                measured.setdefault((name, clients), []).append(found)
                run.bar.step()
            start += max(contestant.requests(clients) for contestant in contestants.values())
    return measured


def _load(name: str, contestant: Contestant, clients: int, requests: int, start: int) -> Figures:
    outcomes = asyncio.run(closed_loop(contestant.ask, questions(requests, start), clients))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise Failed(f"{name} failed {len(errors)} of {len(outcomes)} requests: {errors[0]}")
    return figures(contestant.counted(outcomes), clients)


def ratios(measured: Measured, ours: str, theirs: str, clients: int) -> Spread:
    speeds = [[each.tokens_per_second for each in measured[name, clients]] for name in (ours, theirs)]
    return Spread.of_ratios(*speeds)


def table(measured: Measured, ours: str, theirs: str, levels: Sequence[int]) -> Table:
    columns = ["clients"]
    for name in (ours, theirs):
        columns += [f"{name}, tokens/s", "first text, s", "worst gap, s", "tokens per answer"]
    rows: list[list[Cell]] = []
    for clients in levels:
        row: list[Cell] = [clients]
        for name in (ours, theirs):
            rounds = measured[name, clients]
            row += [
                Spread.of([each.tokens_per_second for each in rounds]).median,
                Spread.of([each.first_token or 0.0 for each in rounds]).median,
                max((each.gap_worst for each in rounds if each.gap_worst is not None), default=None),
                sum(each.tokens for each in rounds) / sum(each.answers for each in rounds),
            ]
        rows.append([*row, ratios(measured, ours, theirs, clients).median])
    return Table(columns=[*columns, "ratio"], rows=rows)
