"""`python -m bench.simulation` writes bench/SIMULATION.md: how many users boxes carry, played in virtual time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rich.progress import track

from bench.machine import commit
from bench.simulation import tables
from bench.simulation.balance import BALANCES
from bench.simulation.cards import Card, cards
from bench.simulation.figures import Figures
from bench.simulation.play import Span
from bench.simulation.scenarios import Scenario, most_users
from bench.simulation.users import AGENT, CHAT, Behaviour

TARGET = Path(__file__).parents[1] / "SIMULATION.md"

LOADS = (0.5, 1.0, 1.25, 1.5, 2.0)
"""Users of one box, of the most that it carries."""

BOXES, LOAD = 4, 0.75
"""Of the plays with several boxes: at this load three of them carry what four had."""

LOST_AT = 240.0
"""Seconds from the beginning of a play until a box fails: one minute of those that count is before it."""

MANY = 32
"""Boxes of 64 GPUs."""

_SHORT = Span(warm_up=120.0, counted=120.0)


def main() -> None:
    boxes = cards()
    with ProcessPoolExecutor() as pool:
        found = _most(pool, boxes)
        pair = boxes[0]
        most = found[pair.name, CHAT.name]
        loads = [Scenario(card, CHAT, round(found[card.name, CHAT.name] * load)) for card in boxes for load in LOADS]
        users = round(BOXES * LOAD * most)
        several = [Scenario(pair, CHAT, users, BOXES, name) for name in BALANCES]
        lost = [Scenario(pair, CHAT, users, BOXES, name, lost=LOST_AT) for name in BALANCES]
        many = [Scenario(pair, CHAT, round(MANY * LOAD * most), MANY, name, span=_SHORT) for name in BALANCES]
        played = dict(_played(pool, [*loads, *several, *lost, *many]))
    text = "\n\n".join(
        [
            tables.head(commit(), datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")),
            tables.behaviours([CHAT, AGENT]),
            tables.steps(boxes),
            tables.most(boxes, [CHAT, AGENT], found),
            tables.gpus(boxes, [CHAT, AGENT], found),
            tables.loads(loads, played),
            tables.balancers(several, lost, many, played),
        ]
    )
    TARGET.write_text(text + "\n", encoding="utf-8")
    print(f"{TARGET} is written")


def _most(pool: Executor, boxes: Sequence[Card]) -> dict[tuple[str, str], int]:
    """By the names of card and behaviour."""
    asked: list[tuple[Card, Behaviour]] = [(card, behaviour) for behaviour in (CHAT, AGENT) for card in boxes]
    found = pool.map(most_users, *zip(*asked, strict=True))
    names = [(card.name, behaviour.name) for card, behaviour in asked]
    return dict(zip(names, track(found, "the most users of a box", len(asked)), strict=True))


def _played(pool: Executor, scenarios: Sequence[Scenario]) -> Iterator[tuple[Scenario, Figures]]:
    played = pool.map(Scenario.play, scenarios)
    return zip(scenarios, track(played, "plays", len(scenarios)), strict=True)


if __name__ == "__main__":
    main()
