"""Users and boxes in virtual time: nothing sleeps, and the same seed gives the same figures on any machine."""

import heapq
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from app.contract.errors import Overloaded
from app.engine.scheduling.decision import Decision
from bench.simulation.balance import Balance
from bench.simulation.box import Answered, Box
from bench.simulation.users import Behaviour, Question, User

_AGAIN = 1.0
"""Seconds that a client waits where it is told nothing else: the Retry-After of `interrupted`."""


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds: what is left out at the beginning, while caches and queues fill, and what counts behind it."""

    warm_up: float
    counted: float

    @property
    def end(self) -> float:
        return self.warm_up + self.counted


@dataclass(slots=True)
class Record:
    """What happened in the part that counts."""

    span: Span
    questions: list[Question] = field(default_factory=list)  # asked in it
    answers: list[Answered] = field(default_factory=list)  # ended in it
    tokens: int = 0  # of all answers


class Play:
    """`lost`: the moment when the first of the boxes fails; its users are told to ask again in a second."""

    def __init__(
        self,
        boxes: Sequence[Box],
        users: int,
        balance: Balance,
        *,
        behaviour: Behaviour,
        span: Span,
        seed: int,
        lost: float | None = None,
    ) -> None:
        self._boxes = list(boxes)
        self._balance = balance
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._stepping: set[str] = set()
        self.record = Record(span)
        self._users = [User(number, behaviour, seed) for number in range(users)]
        for user in self._users:
            self._later(user.pause(), partial(self._ask_next, user))
        if lost is not None:
            self._later(lost, self._lose)

    def run(self) -> Record:
        while self._agenda and self._agenda[0][0] < self.record.span.end:
            self._now, _, action = heapq.heappop(self._agenda)
            action()
        return self.record

    @property
    def _counts(self) -> bool:
        return self._now >= self.record.span.warm_up

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._agenda, (self._now + seconds, next(self._order), action))

    def _ask_next(self, user: User) -> None:
        question = user.question()
        question.asked = self._now
        if self._counts:
            self.record.questions.append(question)
        self._ask(question)

    def _ask(self, question: Question) -> None:
        """One that is refused asks again when it was told to."""
        box = self._balance(self._boxes, str(question.user))
        try:
            box.ask(question, self._now)
        except Overloaded as error:
            question.refusals += 1
            self._later(error.retry_after or _AGAIN, partial(self._ask, question))
            return
        if box.name not in self._stepping:
            self._step(box)

    def _step(self, box: Box) -> None:
        begun = box.begin_step(self._now)
        if begun is None:
            self._stepping.discard(box.name)
            return
        self._stepping.add(box.name)
        decision, seconds = begun
        self._later(seconds, partial(self._end_step, box, decision))

    def _end_step(self, box: Box, decision: Decision) -> None:
        if box not in self._boxes:
            return
        ended = box.end_step(decision, self._now)
        if self._counts:
            self.record.tokens += len(decision.decode) + sum(chunk.last for chunk in decision.prefill)
            self.record.answers += ended
        for answered in ended:
            user = self._users[answered.question.user]
            user.read(answered.conversation)
            self._later(user.pause(), partial(self._ask_next, user))
        self._step(box)

    def _lose(self) -> None:
        """A question's first token, if it had come, is void: the client asks from the beginning."""
        for question in self._boxes.pop(0).fail():
            question.first_token = None
            self._later(_AGAIN, partial(self._ask, question))
