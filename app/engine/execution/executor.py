"""Computes a step: a decision in, the logits of its sampled rows out.

The runner, the warm-up and the self-check compute their steps here, so that what is warmed up and checked is what
serves.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from app.engine.attention.cache import KvCache
from app.engine.attention.step import step_of
from app.engine.execution.decoder import Decoder
from app.engine.execution.graphs.decode_graphs import DecodeGraphs
from app.engine.execution.prompt_scores import PromptScores
from app.engine.kv.manager import KvManager
from app.engine.kv.pages import PAGE_SIZE, PagePool
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, SequenceChunk
from app.engine.scheduling.scheduler import Scheduler


class Executor:
    """A decoder and its KV cache, and perhaps captured steps over it. A decision can be computed again: nothing but
    pages is written."""

    def __init__(self, decoder: Decoder, cache: KvCache, graphs: DecodeGraphs | None = None) -> None:
        self._decoder = decoder
        self._cache = cache
        self.graphs = graphs
        self.asynchronous = any(device.type != "cpu" for device in decoder.devices)
        """Whether `execute` returns before its step is computed."""

    @property
    def devices(self) -> list[torch.device]:
        """Every device that computes."""
        return self._decoder.devices

    @torch.inference_mode()
    def execute(self, decision: Decision) -> "Computed":
        """The logits hold until the next call."""
        if decision.copies:
            self._cache.copy(decision.copies)
        step = step_of(decision, self._cache.page_size)
        logits = None if self.graphs is None else self.graphs.run(step)
        if logits is not None:
            return Computed(step.sampled, logits, [])
        return Computed(step.sampled, *self._decoder.forward(step, self._cache))


class Computed(NamedTuple):
    """What a step gives."""

    chunks: Sequence[SequenceChunk]  # those that get a new token
    logits: Tensor  # theirs, [n, vocabulary]
    scores: PromptScores


def greedy(decoder: Decoder, prompts: Sequence[Sequence[int]], count: int, *, chunk: int) -> list[list[int]]:
    """The most likely `count` tokens after each prompt, computed as requests are, in a cache of its own."""
    sequences = [TokenSequence(f"prompt-{number}", list(prompt), count) for number, prompt in enumerate(prompts)]
    pages = sum(-(-sequence.longest // PAGE_SIZE) for sequence in sequences)
    scheduler = Scheduler(KvManager(PagePool(2 * pages, PAGE_SIZE)), max_sequences=len(sequences), chunk=chunk)
    executor = Executor(decoder, decoder.new_cache(2 * pages))
    for sequence in sequences:
        scheduler.add(sequence)
    while True:
        decision = scheduler.decide()
        if decision is None:
            return [sequence.tokens[sequence.prompt_length :] for sequence in sequences]
        chunks, logits, _ = executor.execute(decision)
        scheduler.advance(decision)
        for done, row in zip(chunks, logits, strict=True):
            done.sequence.tokens.append(int(row.argmax()))
            if done.sequence.generated == count:
                scheduler.remove(done.sequence, keep=False)
