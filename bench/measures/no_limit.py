"""Streaming chats that say no `max_tokens`, against the same answers with just enough."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import httpx2

from bench.errors import Failed
from bench.load.ask import Ask, Chat
from bench.load.loop import closed_loop
from bench.load.outcome import Outcome, figures, most_at_once
from bench.prompts import questions
from bench.results import Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.stack import running_stack
from stack.install.dependencies import EMBEDDED

TARGET = 0.97
CLIENTS = 32
REQUESTS = 2  # of each client
DIGITS = 20
SCHEMA = {
    "type": "object",
    "properties": {
        "digits": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 9},
            "minItems": DIGITS,
            "maxItems": DIGITS,
        }
    },
    "required": ["digits"],
    "additionalProperties": False,
}
"""Of every answer: it ends by itself. Of free text the embedded model ends some after ten tokens, and some never."""

FORM = {"response_format": {"type": "json_schema", "json_schema": {"name": "digits", "schema": SCHEMA}}}

OPEN, TIGHT = "no `max_tokens`", "just enough `max_tokens`"


@dataclass(frozen=True, slots=True)
class Fitted:
    """Asks with each answer's own length as `max_tokens`."""

    chat: Chat
    lengths: dict[str, int]

    async def __call__(self, http: httpx2.AsyncClient, prompt: str) -> Outcome:
        return await replace(self.chat, max_tokens=self.lengths[prompt])(http, prompt)


def measure(run: Run) -> Finding:
    clients = run.sizes(CLIENTS, 4)
    prompts = questions(run.sizes(REQUESTS, 1) * clients)
    found: dict[str, list[list[Outcome]]] = {OPEN: [], TIGHT: []}
    run.bar.total(1 + 2 * run.rounds)
    run.bar.say("starting the stack")
    with running_stack() as stack:
        chat = Chat(stack.base, EMBEDDED, None, FORM)
        run.bar.say("how long the answers are")
        lengths = asyncio.run(_lengths(chat, prompts, clients))
        run.bar.step()
        asks: dict[str, Ask] = {OPEN: chat, TIGHT: Fitted(chat, lengths)}
        for number in range(run.rounds):
            for name in sorted(asks, reverse=bool(number % 2)):  # each goes first in half of the rounds
                run.bar.say(f"{name}, round {number + 1} of {run.rounds}")
                found[name].append(asyncio.run(closed_loop(asks[name], prompts, clients)))
                run.bar.step()
    return _finding(found, clients, len(prompts))


async def _lengths(chat: Chat, prompts: Sequence[str], clients: int) -> dict[str, int]:
    """The tokens of each prompt's answer. Raises Failed."""
    lengths: dict[str, int] = {}

    async def ask(http: httpx2.AsyncClient, prompt: str) -> Outcome:
        outcome = await chat(http, prompt)
        lengths[prompt] = outcome.tokens or 1
        return outcome

    outcomes = await closed_loop(ask, prompts, clients)
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise Failed(f"{len(errors)} of {len(outcomes)} requests failed: {errors[0]}")
    return lengths


def _finding(found: dict[str, list[list[Outcome]]], clients: int, requests: int) -> Finding:
    speeds = {name: [figures(one, clients).tokens_per_second for one in rounds] for name, rounds in found.items()}
    at_once = {name: [most_at_once(one) for one in rounds] for name, rounds in found.items()}
    refused = {name: [_refused(one) for one in rounds] for name, rounds in found.items()}
    asked = f"{clients} streaming chats that say no `max_tokens`"
    rows = [
        Row(
            measure=f"{asked}, against just enough of it, tokens/s",
            value=Spread.of_ratios(speeds[OPEN], speeds[TIGHT]),
            target=TARGET,
        ),
        Row(measure=f"{asked}: answered at once", value=Spread.of(at_once[OPEN]), target=clients, unit="chats"),
        Row(
            measure=f"{asked}: refused with a 429",
            value=Spread.of(refused[OPEN]),
            target=0,
            bound="at most",
            unit="requests",
        ),
    ]
    columns = ["", "tokens/s", "answered at once", "429s", "tokens per answer"]
    lines = [
        [
            name,
            Spread.of(speeds[name]).median,
            max(at_once[name]),
            sum(refused[name]),
            sum(outcome.tokens or 0 for one in found[name] for outcome in one) / (requests * len(found[name])),
        ]
        for name in found
    ]
    notes = [
        f"{requests} questions over `/v1/chat/completions`, greedy; answers are {DIGITS} digits in JSON.",
        "Both have asked each question before, so both find its prompt in the cache.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)


def _refused(outcomes: Sequence[Outcome]) -> int:
    """How many got a 429. Raises Failed for every other error."""
    errors = [outcome.error for outcome in outcomes if outcome.error]
    others = [error for error in errors if not error.startswith("Broken: 429")]
    if others:
        raise Failed(f"{len(others)} of {len(outcomes)} requests failed: {others[0]}")
    return len(errors)
