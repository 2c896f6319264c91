"""Steps over scattered pages, and the logits of every row."""

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from app.engine.attention.step import Step, step_of
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.sequence import TokenSequence
from app.engine.scheduling.decision import Decision, SequenceChunk
from tests.support.driving import over_pages

POOL = 64


def scattered(tokens: Sequence[Sequence[int]], pool: int = POOL) -> list[TokenSequence]:
    """A sequence for each text, with pages from all over the pool."""
    free = list(range(pool))
    random.Random(2).shuffle(free)  # test data
    sequences = []
    for number, text in enumerate(tokens):
        sequence = TokenSequence(str(number), list(text), 1)
        sequence.pages = [free.pop() for _ in range(-(-len(text) // PAGE_SIZE))]
        sequences.append(sequence)
    return sequences


def step(sequences: Sequence[TokenSequence], start: int, end: int) -> Step:
    """The tokens start…end-1 of every sequence: decoding rows where it is one, else chunks."""
    chunks = tuple(SequenceChunk(sequence, start, end - start) for sequence in sequences)
    return step_of(Decision(chunks, ()) if end - start == 1 else Decision((), chunks), PAGE_SIZE)


def logits(model: Any, tokens: Tensor, cuts: Sequence[int]) -> Tensor:
    """Every token's logits, `[rows, length, vocabulary]`, of texts that go through the model in parts."""
    return logits_of(Decoder(over_pages(model)), tokens, cuts)


@torch.inference_mode()
def logits_of(decoder: Decoder, tokens: Tensor, cuts: Sequence[int]) -> Tensor:
    """The same of a decoder."""
    cache = decoder.new_cache(POOL)
    sequences = scattered(tokens.tolist())
    parts, start = [], 0
    for end in cuts:
        whole = step(sequences, start, end)
        every = replace(whole, sampled_rows=list(range(len(whole.tokens))))
        parts.append(decoder.forward(every, cache)[0].view(len(sequences), end - start, -1))
        start = end
    return torch.cat(parts, dim=1)
