"""What steps are estimated to take: their bytes and multiplications at the speeds that a measured card reached.

`bench/simulation/cards.py` reads these speeds from the committed runs. Two RTX 3090 get the H100's: as large a part
of their own data sheet, and as much time of a step that no byte explains.
"""

from functools import cache

from app.models.catalogue import DEEPSEEK
from bench.arithmetic.runs import committed
from bench.arithmetic.work import Model
from bench.simulation.cards import Card, cards


def least(card: Card, batch: int, context: int) -> float:
    """Seconds of a decode step that does nothing but read, as fast as a copy reads and writes."""
    return model().decode(batch, context).floor(card.bandwidth, card.flops)


def decode(card: Card, batch: int, context: int) -> float:
    """Seconds of a decode step: what it reads, and what a step of one sequence took beside that on the card."""
    return least(card, batch, context) + card.points.fixed


def slower(pair: Card) -> tuple[float, float]:
    """Tokens per second of 32 sequences, where a step takes as much more than its estimate as those of 45 and of 8
    took on the H100."""
    h100, run = cards()[1], committed()["H100"]
    fewest, most = (run.step(*step) / decode(h100, *step) for step in ((45, 512), (8, 2048)))
    return 32 / decode(pair, 32, 2048) / fewest, 32 / decode(pair, 32, 2048) / most


def prompt(card: Card, tokens: int, before: int, count: int) -> float:
    """Seconds of a prompt chunk in so many parts, multiplied as fast as the card multiplied such a chunk."""
    return card.in_parts([(tokens, before)], count)


@cache
def model() -> Model:
    return Model(DEEPSEEK.config())
