"""Time to the first token of a conversation's second turn against its first, through the whole stack."""

import asyncio

from bench.errors import Failed
from bench.load.ask import Classic
from bench.load.loop import closed_loop
from bench.load.outcome import Outcome
from bench.model import text_tokens
from bench.prompts import conversation, questions
from bench.results import Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.stack import running_stack

TARGET = 5.0
HISTORY = 2000  # tokens
ANSWER = 16


def measure(run: Run) -> Finding:
    wanted = run.sizes(HISTORY, 400)
    first, second = [], []
    run.bar.total(1 + run.rounds)
    run.bar.say("starting the stack")
    with running_stack() as stack:
        for number in range(1 + run.rounds):  # the first conversation warms up
            history = _history(wanted, number)
            one, two = questions(2, 2 * number)
            run.bar.say(f"conversation {number} of {run.rounds}")
            opening = _ask(stack.base, history, one)
            following = _ask(stack.base, [*history, [one, opening.text]], two)
            first.append(opening.pieces[0] - opening.begun)
            second.append(following.pieces[0] - following.begun)
            run.bar.step()
    row = Row(
        measure=f"time to first token with {wanted:,} tokens of history: the first turn's by the second's",
        value=Spread.of_ratios(first[1:], second[1:]),
        target=TARGET,
    )
    lines = [
        [f"turn {turn}", *(1000 * value for value in (spread.median, spread.low, spread.high))]
        for turn, spread in ((1, Spread.of(first[1:])), (2, Spread.of(second[1:])))
    ]
    notes = ["One client, `POST /` with `stream`, through nginx; every conversation is a new one."]
    columns = ["time to first token", "median, ms", "lowest", "highest"]
    return Finding(rows=[row], table=Table(columns=columns, rows=lines), notes=notes)


def _history(tokens: int, seed: int) -> list[list[str]]:
    """Turns with at least `tokens` tokens together, and not many more."""
    turns = conversation(tokens, seed)
    while sum(text_tokens(text) for turn in turns[:-1] for text in turn) >= tokens:
        turns.pop()
    return turns


def _ask(base: str, history: list[list[str]], question: str) -> Outcome:
    ask = Classic(base, ANSWER, {"history": history, "stream": True})
    (outcome,) = asyncio.run(closed_loop(ask, [question], clients=1))
    if outcome.error or not outcome.pieces:
        raise Failed(outcome.error or "an empty answer")
    return outcome
