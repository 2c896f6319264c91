"""How far a request has come, for whoever ends it. Some of it only the engine knows, and it does not end all."""

import time
from dataclasses import dataclass, field
from itertools import pairwise

from app.contract.events import Timings


@dataclass(slots=True, eq=False)
class Progress:
    """Moments are monotonic seconds; None: not reached yet. The service sets its moments on the event loop, an engine
    its own on its thread, each before it tells the event that follows. Nothing here is ever taken back."""

    arrived_at: float = field(default_factory=time.monotonic)
    # By the service:
    prepared_at: float | None = None  # its prompt was rendered and tokenized
    opened_at: float | None = None  # its grammar was compiled, and the engine took it
    first_token_at: float | None = None
    # By a remote engine:
    sent_at: float | None = None  # another server was asked, which counts what the next ones do as its own
    upstream: str | None = None  # that server
    # By the engine:
    started_at: float | None = None  # its first prompt token was computed
    cached_tokens: int = 0  # prompt tokens that were found in the cache and not computed
    preemptions: int = 0  # times that it gave up its KV memory and was computed again
    first_step: int | None = None  # the number, since the engine's start, of the first forward pass that computed it
    last_step: int | None = None
    steps: int = 0  # forward passes that gave it a token
    neighbours: int = 0  # sequences in these, itself among them, in all

    def computed_in(self, step: int) -> None:
        """Called by the engine with the number of each forward pass that computed tokens of it."""
        if self.first_step is None:
            self.first_step = step
        self.last_step = step

    @property
    def mean_batch(self) -> float | None:
        """Sequences that its forward passes computed, on average."""
        return self.neighbours / self.steps if self.steps else None

    def timings(self, ended_at: float) -> Timings:
        """Of a request that ended then. The stage that it was in lasts until then, and their sum is its duration.

        A moment that was passed and not noted is the next one: the stage before it has the time of both.
        """
        ends = [ended_at]
        for mark in (self.first_token_at, self.sent_at, self.started_at, self.opened_at, self.prepared_at):
            ends.append(ends[-1] if mark is None else min(mark, ends[-1]))
        moments = [min(self.arrived_at, ends[-1]), *reversed(ends)]
        return Timings(*(end - begin for begin, end in pairwise(moments)))
