"""What a user does: asks, reads the answer, and asks again, in conversations of a few turns."""

import math
import random
from dataclasses import dataclass

_TOKENS = range(100, 100_000)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Means of exponential distributions, within the bounds. Lengths are in tokens."""

    name: str
    first: int  # the first question of a conversation, with the code that it is about
    later: int  # each other question
    answer: int
    turns: float  # questions of a conversation; this one is geometric
    pause: float  # seconds from the end of an answer to the next question
    fewest: int = 20
    most: int = 8000


CHAT = Behaviour("chat", first=2000, later=400, answer=300, turns=4, pause=60)
"""A developer at work who asks, reads, tries, and asks again. Nobody measured it: put your own figures here."""

AGENT = Behaviour("agent", first=6000, later=1000, answer=150, turns=15, pause=5)
"""A program that calls tools: each question is the result of a call, and comes as soon as the tool has run."""


@dataclass(slots=True, eq=False)
class Question:
    """`answer` is how many tokens it will have. Moments are seconds of the play; None: not reached."""

    user: int
    tokens: list[int]
    answer: int
    asked: float = 0.0
    refusals: int = 0
    first_token: float | None = None

    @property
    def wait(self) -> float:
        """Seconds from asking, refusals included, to the first token; infinite where none came."""
        return math.inf if self.first_token is None else self.first_token - self.asked


class User:
    """Draws everything from a source of its own, so that a user asks the same whatever the others do."""

    def __init__(self, number: int, behaviour: Behaviour, seed: int) -> None:
        self.number = number
        self._behaviour = behaviour
        self._chance = random.Random(f"{seed} {number}")
        self._conversation: list[int] = []

    def pause(self) -> float:
        """Seconds until the next question."""
        return self._chance.expovariate(1 / self._behaviour.pause)

    def question(self) -> Question:
        behaviour, chance = self._behaviour, self._chance
        if self._conversation and chance.random() < 1 / behaviour.turns:
            self._conversation = []
        self._conversation += self._text(behaviour.later if self._conversation else behaviour.first)
        return Question(self.number, self._conversation.copy(), self._length(behaviour.answer))

    def read(self, conversation: list[int]) -> None:
        """The question and its answer."""
        self._conversation = conversation

    def _text(self, mean: int) -> list[int]:
        return self._chance.choices(_TOKENS, k=self._length(mean))

    def _length(self, mean: int) -> int:
        behaviour = self._behaviour
        return min(behaviour.most, max(behaviour.fewest, round(self._chance.expovariate(1 / mean))))
