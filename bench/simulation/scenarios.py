"""What is played, and with what."""

from dataclasses import dataclass

from bench.simulation.balance import BALANCES
from bench.simulation.box import Box
from bench.simulation.cards import Card
from bench.simulation.figures import Figures, figures
from bench.simulation.play import Play, Span
from bench.simulation.users import Behaviour

SPAN = Span(warm_up=180.0, counted=300.0)
"""Three pauses of a user, until conversations are of every length; and some hundreds of questions."""

SEED = 1
_STEP = 1.05  # the most users are found within five of a hundred
_FEWEST = 4  # fewer ask so seldom that chance decides


@dataclass(frozen=True, slots=True)
class Scenario:
    """`boxes` of one kind, and users who are balanced over them. `lost`: when one of the boxes fails."""

    card: Card
    behaviour: Behaviour
    users: int
    boxes: int = 1
    balance: str = "nginx, by key"  # of BALANCES
    lost: float | None = None
    span: Span = SPAN

    def play(self) -> Figures:
        boxes = [Box(f"box {number}", self.card, SEED) for number in range(self.boxes)]
        play = Play(
            boxes,
            self.users,
            BALANCES[self.balance](SEED),
            behaviour=self.behaviour,
            span=self.span,
            seed=SEED,
            lost=self.lost,
        )
        return figures(play.run())


def most_users(card: Card, behaviour: Behaviour) -> int:
    """The most users with whom one box keeps the promise."""

    def kept(users: int) -> bool:
        return Scenario(card, behaviour, users).play().kept

    low, high = _FEWEST, 2 * _FEWEST
    while kept(high):
        low, high = high, 2 * high
    while high > low * _STEP:
        middle = round((low * high) ** 0.5)
        if middle in (low, high):
            break
        low, high = (middle, high) if kept(middle) else (low, middle)
    return low
