"""The tables of bench/SIMULATION.md."""

import math
from collections.abc import Mapping, Sequence

from bench.simulation.cards import Card
from bench.simulation.figures import FIRST_TOKEN, SPEED, Figures
from bench.simulation.scenarios import Scenario
from bench.simulation.users import Behaviour

GPUS = (2, 8, 64)
USERS = (10, 1_000, 100_000)

_ROWS, _CONTEXT = (1, 8, 32, 64, 110), 2048
_COLUMNS = (
    *("first token, median", "95 of 100 within", "tokens/s of an answer, median", "95 of 100 at least"),
    *("tokens/s together", "refused once or more", "of the prompts cached"),
)

Found = Mapping[tuple[str, str], int]
"""The most users, by the names of card and behaviour."""


def head(commit: str, date: str) -> str:
    return f"""# Simulation

Written by `python -m bench.simulation` at {commit}, {date}. **Nothing here is a measurement of a
server.** Users and boxes are played in virtual time: each box has the product's own admission, scheduler and KV
cache with their default settings, and a step takes what it took on the card ([RESULTS.md](RESULTS.md)), or what the
arithmetic says of a card that nobody measured. HTTP, tokenizing and nginx are not in it. The same commit gives the
same figures on any machine.

The promise by which a box is judged: 95 of 100 questions have their first token within {FIRST_TOKEN:g} seconds,
refusals and their waits included, and 95 of 100 answers come with {SPEED:g} tokens per second or more."""


def behaviours(all_of_them: Sequence[Behaviour]) -> str:
    rows = [
        [each.name, each.first, each.later, each.answer, f"{each.turns:g}", f"{each.pause:g} s"]
        for each in all_of_them
    ]
    columns = ["user", "first question", "later ones", "answer", "questions of a conversation", "pause"]
    return f"""## Users

Lengths are in tokens. All are means of exponential distributions, each text between {all_of_them[0].fewest} and
{all_of_them[0].most:,} tokens; every user has a key, so nobody finds another's prompt in the cache. A user is
somebody at work: of the people who have access it is a part, which only you know.

{_table(columns, rows)}"""


def steps(cards: Sequence[Card]) -> str:
    rows = [
        [
            card.name,
            "measured" if card.measured else "estimated from the H100",
            f"{card.capacity.kv_tokens:,}",
            card.capacity.sequences,
            *(f"{1e3 * card.decode(rows, rows * _CONTEXT):.1f} ms" for rows in _ROWS),
            f"{1e3 * card.prefill([(2048, 0)]):.0f} ms",
        ]
        for card in cards
    ]
    columns = [
        *("a box", "its steps", "KV tokens", "places"),
        *(f"decode {rows}" for rows in _ROWS),
        "2,048 prompt tokens",
    ]
    return f"""## Boxes

Decode steps are of so many sequences with {_CONTEXT:,} tokens each. Rows above 45, and steps with prompt tokens and
decoding sequences together, were measured on no card.

{_table(columns, rows)}"""


def most(cards: Sequence[Card], users: Sequence[Behaviour], found: Found) -> str:
    rows = [[card.name, card.gpus, *(f"{found[card.name, each.name]:,}" for each in users)] for card in cards]
    return f"""## The most users of one box that keeps its promise

{_table(["a box", "GPUs", *(f"users: {each.name}" for each in users)], rows)}"""


def gpus(cards: Sequence[Card], users: Sequence[Behaviour], found: Found) -> str:
    """By arithmetic: boxes are independent of each other, and users are spread over them."""
    rows = []
    for card in cards:
        for each in users:
            one = found[card.name, each.name]
            carried = [f"{one * (count // card.gpus):,}" for count in GPUS]
            needed = [f"{card.gpus * math.ceil(count / one):,}" for count in USERS]
            rows.append([card.name, each.name, *carried, *needed])
    columns = ["boxes of", "users", *(f"{count} GPUs carry" for count in GPUS)]
    columns += [f"GPUs for {count:,} users" for count in USERS]
    return f"""## GPUs and users

Multiplied from the table above: a box knows nothing of the others. Several boxes are played further down.

{_table(columns, rows)}"""


def loads(scenarios: Sequence[Scenario], played: Mapping[Scenario, Figures]) -> str:
    rows = [[each.card.name, f"{each.users:,}", *_cells(played[each])] for each in scenarios]
    return f"""## One box with fewer and with more users than it carries

{_table(["a box", "users: chat", *_COLUMNS], rows)}"""


def balancers(
    several: Sequence[Scenario],
    lost: Sequence[Scenario],
    many: Sequence[Scenario],
    played: Mapping[Scenario, Figures],
) -> str:
    parts = [
        f"## {several[0].boxes} and {many[0].boxes} boxes of {several[0].card.name}, by who chooses the box",
        _balanced(several, played),
        f"One of the {lost[0].boxes} boxes fails, and its users ask again after a second:",
        _balanced(lost, played),
        f"{many[0].boxes} boxes:",
        _balanced(many, played),
    ]
    return "\n\n".join(parts)


def _balanced(scenarios: Sequence[Scenario], played: Mapping[Scenario, Figures]) -> str:
    rows = [[each.balance, f"{each.users:,}", *_cells(played[each])] for each in scenarios]
    return _table(["chosen by", "users: chat", *_COLUMNS], rows)


def _cells(seen: Figures) -> list[str]:
    return [
        _seconds(seen.first_token),
        _seconds(seen.first_token_95),
        f"{seen.speed:.0f}",
        f"{seen.speed_5:.0f}",
        f"{seen.tokens:,.0f}",
        f"{seen.refused:.1%}",
        f"{seen.cached:.0%}",
    ]


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if math.isfinite(value) else "not in the play"


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
