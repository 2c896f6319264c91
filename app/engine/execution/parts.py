"""Into how many parts a step with prompt tokens is cut where a model's layers lie on several GPUs.

More parts keep the GPUs at work at the same time for longer. But each part reads all weights again, and the host
launches each by itself. What is best depends on the cards, on what is between them and on the host, so it is measured
at the start, where it will be used. docs/decisions/0008-both-gpus-on-one-prompt.md has the arithmetic.
"""

import logging
import random
import time
from collections.abc import Callable, Sequence

import torch

from app.engine.attention.step import Span, Step
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE

_log = logging.getLogger(__name__)

COUNTS = (1, 2, 4)
"""Numbers of parts that are tried. With eight a part of 256 tokens would read weights for longer than it multiplies
(bench/ARITHMETIC.md)."""

GAIN = 0.95
"""More parts must take at most so much of the time that fewer take: a smaller difference may be chance."""

ROUNDS = 3
"""The first one warms up: libraries allocate and plan for new shapes."""

SecondsOf = Callable[[int, int], float]
"""Of a step with so many prompt tokens, in so many parts."""


def choose_parts(decoder: Decoder, sizes: Sequence[int], measure: Callable[[Decoder, int], SecondsOf]) -> None:
    """Let the decoder compute steps of `sizes` rows in the number of parts with which they take least. They stay
    whole where one device has all layers, and where parts cannot be computed."""
    if len(decoder.segments) == 1:
        return
    begun = time.monotonic()
    try:
        seconds_of = measure(decoder, max(sizes))
        counts = {rows: best_count(rows, seconds_of) for rows in sizes}
    except Exception as refused:  # noqa: BLE001  # compilers and drivers raise errors of many classes
        _log.warning("prompts are computed as a whole: parts do not run here", extra={"reason": repr(refused)})
        decoder.parts = {}
        return
    decoder.parts = counts
    seconds = round(time.monotonic() - begun, 2)
    _log.info("prompts are computed in parts over the GPUs", extra={"parts": counts, "seconds": seconds})


def best_count(rows: int, seconds_of: SecondsOf) -> int:
    """The number of parts with which a step of `rows` prompt tokens takes least."""
    best, least = 1, seconds_of(rows, 1)
    for count in COUNTS[1:]:
        taken = seconds_of(rows, count)
        if taken <= least * GAIN:
            best, least = count, taken
    return best


def measured(decoder: Decoder, most: int) -> SecondsOf:
    """Measures steps of at most `most` rows on the decoder's devices."""
    cache = decoder.new_cache(-(-most // PAGE_SIZE))

    @torch.inference_mode()
    def seconds_of(rows: int, count: int) -> float:
        decoder.parts = {rows: count}
        step, taken = _one_prompt(rows, decoder.vocabulary), []
        for _ in range(ROUNDS):
            begun = time.monotonic()
            decoder.forward(step, cache)[0].sum().item()  # waits for the last device
            taken.append(time.monotonic() - begun)
        return min(taken)

    return seconds_of


def _one_prompt(rows: int, vocabulary: int) -> Step:
    """Its last row is sampled, and its pages are the first ones. Its tokens differ, as a text's do: equal ones would
    all choose the same experts, and to read the others is what parts cost."""
    tokens = random.Random(0).choices(range(vocabulary), k=rows)  # noqa: S311  # numbers to measure with
    pages, places = list(range(-(-rows // PAGE_SIZE))), list(range(rows))
    return Step(tokens, places, places, (), (Span(pages, 0, rows, slice(0, rows)),), (), [rows - 1])
