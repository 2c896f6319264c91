"""Times single steps: the whole of one, and what a step costs outside the model.

Contexts are not computed: every page holds random numbers, which take as long to attend to as real ones.
"""

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from prometheus_client import CollectorRegistry
from torch import Tensor

from app.contract.options import Cleanup
from app.contract.requests import EngineRequest, SamplingParams
from app.contract.telemetry import Observers
from app.engine.attention.cache import KvCache
from app.engine.attention.step import step_of
from app.engine.commands import Submit
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import Computed, Executor
from app.engine.execution.memory.cleanup import Cleaner
from app.engine.execution.runner import Emission, Runner
from app.engine.health import Health
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.loading.startup import load_decoder
from app.engine.scheduling.decision import Decision
from app.engine.scheduling.scheduler import Scheduler
from app.engine.thread import CPU_CHUNK
from app.local_engine import engine_config
from app.models.selection import select_model
from app.observability.metrics.observer import Metrics
from app.settings import load_settings

WARM = 3  # steps that are not counted
PARTS = {
    "decide": ("_scheduler", "decide"),
    "plan": ("_executor", "execute"),
    "sample": ("_sampler", "sample"),
    "accept": (None, "_accept"),
    "emit": (None, "_emit"),
    "observe": (None, "_report"),
}
"""The methods that make up a step, and what of the runner has them."""


class Prepared(Executor):
    """Plans each step as the product does, and has its logits already."""

    def __init__(self, decoder: Decoder, cache: KvCache, logits: Tensor) -> None:
        super().__init__(decoder, cache)
        self._logits = logits

    def execute(self, decision: Decision) -> Computed:
        step = step_of(decision, self._cache.page_size)
        self._cache.begin(step)
        return Computed(step.sampled, self._logits[: len(step.sampled)], [])


class Steps:
    """The model of the settings. Times are seconds."""

    @torch.inference_mode()
    def __init__(self) -> None:
        settings = load_settings(None)
        config = engine_config(settings, select_model(settings))
        self._observers = Observers([Metrics(CollectorRegistry())])  # as the app counts
        self._pages = config.capacity.kv_tokens // PAGE_SIZE
        self._vocabulary = config.model.vocabulary
        self._random = random.Random(0)
        self._decoder = load_decoder(config, self._observers, Health(self._observers))
        self._cache = self._decoder.new_cache(self._pages)
        self._executor = Executor(self._decoder, self._cache)
        for layer in range(len(self._decoder.layer_devices)):
            storage = self._cache.storage(layer)
            storage.keys.normal_()
            storage.values.normal_()

    @property
    def dtype(self) -> str:
        return str(self._decoder.dtype)

    def decode(self, batch: int, context: int, steps: int) -> dict[str, Any]:
        """The median step of `batch` sequences with about `context` tokens each."""
        scheduler = self._scheduler(batch, chunk=batch * context)
        self._add(scheduler, batch, context, WARM + steps + 1)
        self._step(scheduler, lambda _: None)
        took = [self._step(scheduler, self._execute) for _ in range(WARM + steps)]
        return {"seconds": statistics.median(took[WARM:])}

    def prefill(self, length: int) -> dict[str, Any]:
        """A prompt of `length` tokens, alone, in the product's chunks."""
        scheduler = self._scheduler(1, chunk=CPU_CHUNK)
        (sequence,) = self._add(scheduler, 1, length, 1)
        took = 0.0
        while not sequence.generated:
            took += self._step(scheduler, self._execute)
        return {"seconds": took}

    def own(self, batch: int, context: int, steps: int) -> dict[str, Any]:
        """The median step of the product's runner with greedy sequences, when the model takes no time, and the
        medians of its parts."""
        loop = asyncio.new_event_loop()
        logits = torch.randn(batch, self._vocabulary).to(self._decoder.dtype)
        runner = Runner(
            executor=Prepared(self._decoder, self._cache, logits),
            scheduler=self._scheduler(batch, chunk=batch * context),
            cleaner=Cleaner(Cleanup.OFF, (), self._observers),
            observers=self._observers,
            emit=lambda emission: _hand_over(loop, emission),
        )
        for number in range(batch):
            params = SamplingParams(seed=0, temperature=0.0)
            prompt = tuple(self._prompt(context))
            request = EngineRequest(id=str(number), tokens=prompt, max_tokens=WARM + steps + 2, sampling=params)
            runner.submit(Submit(request))
        for _ in range(WARM):
            runner.step()
        parts = {name: _timed(runner, *where) for name, where in PARTS.items()}
        whole = []
        for _ in range(steps):
            begun = time.perf_counter()
            runner.step()
            whole.append(time.perf_counter() - begun)
            loop.run_until_complete(asyncio.sleep(0))  # what the event loop does is done on its own thread
        loop.close()
        return {
            "seconds": statistics.median(whole),
            "parts": {name: statistics.median(times) for name, times in parts.items()},
        }

    def _scheduler(self, batch: int, chunk: int) -> Scheduler:
        return Scheduler(KvManager(PagePool(self._pages, PAGE_SIZE)), max_sequences=batch, chunk=chunk)

    def _add(self, scheduler: Scheduler, batch: int, length: int, most: int) -> list[TokenSequence]:
        sequences = [TokenSequence(str(number), self._prompt(length), most) for number in range(batch)]
        for sequence in sequences:
            scheduler.add(sequence)
        return sequences

    def _step(self, scheduler: Scheduler, execute: Callable[[Decision], None]) -> float:
        """One step. Each sequence whose tokens are all computed gets a random one."""
        begun = time.perf_counter()
        decision = scheduler.decide()
        if decision is None:
            raise SystemExit("there is nothing to compute: is the KV cache too small?")
        execute(decision)
        scheduler.advance(decision)
        took = time.perf_counter() - begun
        for chunk in (*decision.decode, *decision.prefill):
            if not chunk.sequence.pending:
                chunk.sequence.tokens.append(self._random.randrange(self._vocabulary))
        return took

    @torch.inference_mode()
    def _execute(self, decision: Decision) -> None:
        self._executor.execute(decision)

    def _prompt(self, length: int) -> list[int]:
        return [self._random.randrange(self._vocabulary) for _ in range(length)]


def _hand_over(loop: asyncio.AbstractEventLoop, emission: Emission) -> None:
    """As the engine gives events to the event loop."""
    loop.call_soon_threadsafe(lambda _: None, emission)


def _timed(runner: Runner, part: str | None, method: str) -> list[float]:
    """The seconds of each call of that method from now on."""
    owner: Any = runner if part is None else getattr(runner, part)
    inner, times = getattr(owner, method), []

    def timed(*arguments: Any) -> Any:
        begun = time.perf_counter()
        result = inner(*arguments)
        times.append(time.perf_counter() - begun)
        return result

    setattr(owner, method, timed)
    return times
