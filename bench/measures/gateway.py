"""What a remote engine costs beside the server that it asks: processor time of requests and tokens, and latency."""

import asyncio
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.errors import Failed
from bench.load.ask import Chat, InTurn
from bench.load.loop import closed_loop
from bench.load.outcome import Outcome, figures
from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.gateway import ENGINES, App, apps

STREAMS = (1, 32, 256, 1000)
SHORT, LONG = 1, 65  # tokens of an answer
ANSWERS = {1: 100, 32: 256, 256: 768, 1000: 3000}  # of a turn
_BEGIN = 5.0  # seconds in which all streams begin: of one client at most 128 prompts wait to be read


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of load on the gateway, and the same on the servers behind it, which are asked in turn."""

    through: Sequence[Outcome]
    direct: Sequence[Outcome]
    processor: float  # seconds of the gateway's process, for all answers


def measure(run: Run) -> Finding:
    streams = STREAMS[: run.sizes(len(STREAMS), 2)]
    rounds = 1 + run.rounds
    turns: dict[tuple[int, int], list[Turn]] = {(count, tokens): [] for count in streams for tokens in (SHORT, LONG)}
    run.bar.total(rounds * len(turns))
    run.bar.say("starting servers and their gateway")
    with apps() as (engines, gateway):
        for number in range(rounds):  # the first one warms up
            for (count, tokens), seen in turns.items():
                run.bar.say(f"{count} streams of {tokens} tokens, round {number} of {run.rounds}")
                turn = _turn(engines, gateway, count, tokens, run.sizes(ANSWERS[count], 8))
                if number:
                    seen.append(turn)
                run.bar.step()
    return _finding(turns, streams)


def _turn(engines: Sequence[App], gateway: App, streams: int, tokens: int, answers: int) -> Turn:
    direct = _load(engines, streams, tokens, answers)
    before = gateway.processor_seconds()
    through = _load([gateway], streams, tokens, answers)
    return Turn(through, direct, gateway.processor_seconds() - before)


def _load(apps: Sequence[App], streams: int, tokens: int, answers: int) -> Sequence[Outcome]:
    ask = InTurn([Chat(app.base, "scripted", tokens) for app in apps])
    outcomes = asyncio.run(closed_loop(ask, questions(answers), streams, apart=_BEGIN / streams))
    errors = [outcome.error for outcome in outcomes if outcome.error]
    if errors:
        raise Failed(f"{len(errors)} errors: {errors[0]}")
    return outcomes


def _finding(turns: dict[tuple[int, int], list[Turn]], streams: Sequence[int]) -> Finding:
    rows, lines = [], []
    for count in streams:
        short, long = turns[count, SHORT], turns[count, LONG]
        requests = [1e3 * turn.processor / len(turn.through) for turn in short]
        tokens = [
            1e6 * (b.processor / len(b.through) - a.processor / len(a.through)) / (LONG - SHORT)
            for a, b in zip(short, long, strict=True)
        ]
        names = f"at {count} stream{'s' if count > 1 else ''}"
        rows += [
            Row(
                measure=f"the gateway's processor time for a request of one token, {names}",
                value=Spread.of(requests),
                unit="ms",
            ),
            Row(measure=f"and for each token more, {names}", value=Spread.of(tokens), unit="microseconds"),
        ]
        lines.append([count, *_columns(short, long), round(1e6 / statistics.median(tokens))])
    notes = [
        f"Each of the {ENGINES} servers behind computes nothing: it sends random tokens as fast as it can.",
        "They, the gateway and the clients share this machine's cores: many streams say how they compete.",
        "The last column is what a gateway passes on at most, by its processor time; then it is the bottleneck.",
    ]
    columns = [
        *("streams", "first token direct, ms", "through the gateway, ms"),
        *("tokens/s direct", "through the gateway", "tokens/s of one core of the gateway"),
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)


def _columns(short: Sequence[Turn], long: Sequence[Turn]) -> list[Cell]:
    """First tokens of the short answers, speeds of the long ones: medians of the rounds."""
    firsts = [
        statistics.median(1e3 * (figures(side(turn), 1).first_token or 0.0) for turn in short)
        for side in (_direct, _through)
    ]
    speeds = [
        statistics.median(figures(side(turn), 1).tokens_per_second for turn in long) for side in (_direct, _through)
    ]
    return [*(round(first, 1) for first in firsts), *(round(speed) for speed in speeds)]


def _direct(turn: Turn) -> Sequence[Outcome]:
    return turn.direct


def _through(turn: Turn) -> Sequence[Outcome]:
    return turn.through
