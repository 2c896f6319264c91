"""One box in virtual time: the product's own admission, scheduler and KV cache, and steps as long as on the card.

What is not here: HTTP, tokenizing, and the model. Tokens are numbers by chance.
"""

import random
from dataclasses import dataclass

from app.contract.errors import Overloaded
from app.contract.events import Timings, Usage
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import Scheduler
from app.engine.thread import GPU_CHUNK
from app.serving.admission import Admission, Reservation, Size
from app.settings import Settings
from bench.simulation.cards import Card
from bench.simulation.users import Question


@dataclass(slots=True, eq=False)
class Asked:
    """A question that was taken. Moments are seconds of the play; None: not reached."""

    question: Question
    sequence: TokenSequence
    reservation: Reservation
    at: float
    started: float | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """How a question went: `timings` as the product measures them."""

    question: Question
    usage: Usage
    timings: Timings
    conversation: list[int]

    @property
    def speed(self) -> float:
        """Tokens per second behind the first one."""
        return (self.usage.completion_tokens - 1) / self.timings.decode


class Box:
    """`name` and `outstanding` are what balancers look at."""

    def __init__(self, name: str, card: Card, seed: int) -> None:
        settings = Settings.model_fields
        self.name = name
        self.card = card
        pool = PagePool(card.capacity.kv_tokens // PAGE_SIZE, PAGE_SIZE)
        self.scheduler = Scheduler(KvManager(pool), max_sequences=card.capacity.sequences, chunk=GPU_CHUNK)
        self._admission = Admission(settings["max_waiting"].default, settings["max_wait"].default)
        self._chance = random.Random(f"{seed} {name}")
        self._inside: dict[str, Asked] = {}
        self._count = 0

    @property
    def outstanding(self) -> int:
        return len(self._inside)

    def ask(self, question: Question, now: float) -> Asked:
        """Raises Overloaded."""
        tenant, capacity = str(question.user), self.card.capacity
        reservation = self._admission.enter(capacity, tenant)
        try:
            room = capacity.kv_tokens - len(question.tokens)  # no `max_tokens`: as many as fit
            self._admission.take([reservation], [Size(len(question.tokens), room)], capacity)
        except Overloaded:
            reservation.release()
            raise
        self._count += 1
        sequence = TokenSequence(str(self._count), question.tokens.copy(), question.answer, tenant)
        self.scheduler.add(sequence)
        asked = self._inside[sequence.id] = Asked(question, sequence, reservation, now)
        return asked

    def begin_step(self, now: float) -> tuple[Decision, float] | None:
        """The next step and its seconds; None: nothing to compute."""
        decision = self.scheduler.decide()
        if decision is None:
            return None
        for chunk in decision.prefill:
            asked = self._inside[chunk.sequence.id]
            asked.started = now if asked.started is None else asked.started
        return decision, self.card.seconds(decision)

    def end_step(self, decision: Decision, now: float) -> list[Answered]:
        """Those whose answers ended."""
        sampled = [chunk.sequence for chunk in (*decision.decode, *decision.prefill) if chunk.last]
        self.scheduler.advance(decision)
        ended = []
        for sequence in sampled:
            asked = self._inside[sequence.id]
            sequence.tokens.append(self._chance.randrange(100, 100_000))
            asked.reservation.count_tokens(1)
            if asked.question.first_token is None:
                asked.question.first_token = now
            if sequence.generated == asked.question.answer:
                ended.append(self._end(asked, now))
        return ended

    def fail(self) -> list[Question]:
        """It is gone, and these had no answer yet."""
        lost = [asked.question for asked in self._inside.values()]
        self._inside.clear()
        return lost

    def _end(self, asked: Asked, now: float) -> Answered:
        del self._inside[asked.sequence.id]
        self.scheduler.remove(asked.sequence, keep=True)
        started, first = asked.started or now, asked.question.first_token or now
        timings = Timings(queue=started - asked.at, prefill=first - started, decode=now - first)
        usage = Usage(asked.sequence.prompt_length, asked.question.answer, asked.sequence.cached)
        asked.reservation.count_speed(usage, timings)
        asked.reservation.release()
        return Answered(asked.question, usage, timings, asked.sequence.tokens)
