"""A GPU that is played, beneath the product's runner: what the host costs beside a real one.

A step has no model. Launching it takes as many small operations of torch as the replay of a captured step took on an
H100 (bench/results/gpu/), and its tokens are there a fixed time later. The inference thread waits for them without
the interpreter's lock, as it waits for a GPU. Scheduler, runner and sampler are the product's.
"""

import os
import queue
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from app.contract.engine import Phase
from app.contract.options import Cleanup
from app.contract.telemetry import Observers
from app.engine.attention.step import step_of
from app.engine.commands import Command
from app.engine.config import EngineConfig
from app.engine.execution.executor import Computed, Executor
from app.engine.execution.memory.cleanup import Cleaner
from app.engine.execution.runner import Emission, Runner
from app.engine.health import Health
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.sampling.sampler import Sampled, Sampler, SamplingState
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import Scheduler
from app.engine.thread import GPU_CHUNK, _work
from bench.workers.played_app import AFTER_LAUNCH, SECONDS, TOLD

_OPERATIONS = 55
_VOCABULARY = 1024  # few: a GPU chooses among all of them, and the host does not
_NEVER = 100  # tokens below are control tokens, of which one would end an answer


class Played(Executor):
    def __init__(self, sequences: int, seconds: float, *, asynchronous: bool) -> None:
        self.asynchronous = asynchronous
        self._seconds = seconds
        self._number = torch.zeros(8)
        self._logits = torch.randn(sequences, _VOCABULARY)
        self._logits[:, :_NEVER] = -100.0
        self._ready_at = 0.0

    def execute(self, decision: Decision) -> Computed:
        step = step_of(decision, PAGE_SIZE)
        for _ in range(_OPERATIONS):
            self._number.add_(1)
        self._ready_at = time.monotonic() + self._seconds
        return Computed(step.sampled, self._logits[: len(step.sampled)], [])

    def wait(self) -> None:
        """Until the step is computed."""
        time.sleep(max(0.0, self._ready_at - time.monotonic()))


class WaitingSampler(Sampler):
    """Samples where a GPU's tokens are waited for."""

    def __init__(self, device: Played) -> None:
        super().__init__()
        self._device = device

    def sample(self, logits: Tensor, states: Sequence[SamplingState]) -> list[Sampled]:
        self._device.wait()
        return super().sample(logits, states)


def run_played(
    config: EngineConfig,
    observers: Observers,
    health: Health,
    commands: "queue.SimpleQueue[Command]",
    emit: Callable[[Emission], None],
) -> None:
    """What `app.engine.thread.run_inference` does, on the same thread."""
    torch.set_num_threads(1)
    sequences = config.capacity.sequences
    device = Played(sequences, float(os.environ[SECONDS]), asynchronous=os.environ[TOLD] == AFTER_LAUNCH)
    pool = PagePool(config.capacity.kv_tokens // PAGE_SIZE, PAGE_SIZE)
    runner = Runner(
        executor=device,
        scheduler=Scheduler(KvManager(pool), max_sequences=sequences, chunk=GPU_CHUNK),
        cleaner=Cleaner(Cleanup.OFF, [], observers),
        observers=observers,
        emit=emit,
    )
    runner._sampler = WaitingSampler(device)  # noqa: SLF001  # the runner makes its own
    health.enter(Phase.READY, "played")
    _work(runner, commands, health)
