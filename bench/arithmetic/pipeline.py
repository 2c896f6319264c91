"""Prompt chunks in parts over cards that hold a model's layers in turn, as the engine computes them."""

from collections.abc import Sequence

Chunk = tuple[int, int]
"""(tokens, tokens before them)."""


def cut(chunks: Sequence[Chunk], count: int) -> list[list[Chunk]]:
    """The chunks' tokens in so many parts of about the same size (`app/engine/attention/step_parts.py`)."""
    rows = sum(tokens for tokens, _ in chunks)
    ends = [rows * number // count for number in range(count + 1)]
    parts: list[list[Chunk]] = [[] for _ in range(count)]
    row = 0
    for tokens, before in chunks:
        for part, start, end in zip(parts, ends, ends[1:], strict=False):
            first, last = max(start, row), min(end, row + tokens)
            if first < last:
                part.append((last - first, before + first - row))
        row += tokens
    return [part for part in parts if part]


def makespan(parts: Sequence[float], cards: int) -> float:
    """Seconds until the last card has computed the last part, where a part takes `parts` seconds on all cards
    together and as long on each: the cards take the parts in order, and each waits for the one before it."""
    return (sum(parts) + (cards - 1) * max(parts)) / cards
