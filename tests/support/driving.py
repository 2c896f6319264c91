"""Drives a runner step by step, without a thread or an event loop."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from app.contract.events import Finished, PromptEvent, TokenEvent
from app.contract.options import Cleanup
from app.contract.progress import Progress
from app.contract.requests import EngineRequest, SamplingParams
from app.contract.telemetry import Event, Observers
from app.engine.attention import stock
from app.engine.attention.mla import absorb
from app.engine.commands import Submit
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import Executor
from app.engine.execution.graphs.decode_graphs import capture_steps
from app.engine.execution.memory.cleanup import Cleaner
from app.engine.execution.runner import Emission, Runner
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.scheduler import Scheduler

CONTEXT = 4096


@dataclass
class Heard:
    """An observer that keeps what it is told."""

    events: list[Event] = field(default_factory=list)

    def notify(self, event: Event) -> None:
        self.events.append(event)


@dataclass
class Driver:
    """A runner with everything that it says."""

    runner: Runner
    scheduler: Scheduler
    heard: Heard
    tokens: dict[str, list[int]] = field(default_factory=dict)
    prompts: dict[str, list[TokenEvent]] = field(default_factory=dict)  # with log-probabilities
    finished: dict[str, Finished] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)

    def submit(self, name: str, tokens: Iterable[int], max_tokens: int = 12, **changes: Any) -> None:
        settings: dict[str, Any] = {"sampling": SamplingParams(seed=0, temperature=0.0)}
        request = EngineRequest(id=name, tokens=tuple(tokens), max_tokens=max_tokens, **(settings | changes))
        self.tokens[name], self.progress[name] = [], request.progress
        self.runner.submit(Submit(request))

    def take(self, emission: Emission) -> None:
        for name, event in emission:
            assert name not in self.finished, "nothing comes after the end"
            if isinstance(event, TokenEvent):
                self.tokens[name].append(event.token)
            elif isinstance(event, PromptEvent):
                assert not self.tokens[name], "the prompt comes first"
                self.prompts.setdefault(name, []).extend(event.tokens)
            else:
                self.finished[name] = event

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Steps until nothing is left, or until the condition holds."""
        while not (until is not None and until()):
            if not self.runner.step():
                return

    def ask(self, name: str, tokens: Iterable[int], max_tokens: int = 12, **changes: Any) -> list[int]:
        self.submit(name, tokens, max_tokens, **changes)
        self.run()
        return self.tokens[name]


def sequences_of(scheduler: Scheduler) -> list[TokenSequence]:
    """The running ones, oldest first, then the waiting ones."""
    return [*scheduler._running.values(), *scheduler._waiting]


def over_pages(model: nn.Module) -> nn.Module:
    """The model itself, changed to attend over pages as the loader and the start-up do."""
    stock.register()
    model.config._attn_implementation = stock.NAME  # type: ignore[union-attr]  # a transformers model
    absorb(model)
    return model


def drive(
    model: nn.Module,
    *,
    kv_tokens: int = 16_384,
    max_sequences: int = 32,
    chunk: int = 64,
    share: bool = False,
    cleanup: Cleanup = Cleanup.OFF,
    memories: Iterable[Any] = (),
) -> Driver:
    """A driver over a model, which is changed to attend over pages."""
    over_pages(model)
    heard = Heard()
    observers = Observers([heard])
    pool = PagePool(kv_tokens // PAGE_SIZE, PAGE_SIZE, share_prefixes=share)
    scheduler = Scheduler(KvManager(pool), max_sequences=max_sequences, chunk=chunk)
    decoder = Decoder(model)
    cache = decoder.new_cache(pool.count)
    driver: Driver
    runner = Runner(
        executor=Executor(decoder, cache, capture_steps(decoder, cache, max_sequences)),
        scheduler=scheduler,
        cleaner=Cleaner(cleanup, list(memories), observers),
        observers=observers,
        emit=lambda emission: driver.take(emission),  # noqa: PLW0108  # the driver comes into being below
    )
    driver = Driver(runner, scheduler, heard)
    return driver


def reference(model: Any, tokens: list[int], max_tokens: int = 12, eos: int | None = None) -> list[int]:
    """What `model.generate` answers, alone, greedily, on the stock attention: call it before `drive`."""
    ids = torch.tensor([tokens])
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=0,
    )
    answer: list[int] = output[0, len(tokens) :].tolist()
    return answer
