"""A step in parts: one after the other through all layers, so that several GPUs work on one step at the same time.

The layers of a model over two GPUs are computed one GPU after the other, and one waits while the other works. When a
step's rows come in parts, the second GPU computes a part while the first computes the next one. Each part's rows see
what the parts before it stored, as the chunks of a prompt do: only the moment at which a row is computed changes.
"""

from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise

from app.engine.attention.step import Span, Step


def parts_of(step: Step, counts: Mapping[int, int]) -> list[Step]:
    """The step's rows in parts of about the same size, as many as `counts` says, the decoding rows in the first one.
    Rows that are sampled keep their order.

    A step without prompts stays whole, and so does one whose prompt rows are scored: each wait for the scores of a
    part would end what parts are for.
    """
    rows, decoding = len(step.tokens), len(step.decode)
    count = count_for(rows, counts)
    if count == 1 or not step.spans or step.scored:
        return [step]
    ends = [max(decoding, rows * number // count) for number in range(1, count + 1)]
    return [_part(step, start, end) for start, end in pairwise([0, *ends]) if end > start]


def count_for(rows: int, counts: Mapping[int, int]) -> int:
    """The number of parts of a step with so many rows. `counts` has it for some numbers of rows: that of the largest
    which is not larger holds, and smaller steps stay whole."""
    known = [size for size in counts if size <= rows]
    return counts[max(known)] if known else 1


def _part(step: Step, start: int, end: int) -> Step:
    first, last = bisect_left(step.sampled_rows, start), bisect_left(step.sampled_rows, end)
    return Step(
        tokens=step.tokens[start:end],
        positions=step.positions[start:end],
        slots=step.slots[start:end],
        decode=() if start else step.decode,
        spans=tuple(
            _cut(span, start, end) for span in step.spans if span.rows.start < end and span.rows.stop > start
        ),
        sampled=step.sampled[first:last],
        sampled_rows=[row - start for row in step.sampled_rows[first:last]],
    )


def _cut(span: Span, start: int, end: int) -> Span:
    """What the part from row `start` to row `end` has of a chunk."""
    first, last = max(span.rows.start, start), min(span.rows.stop, end)
    position = span.start - span.rows.start
    return Span(span.table, position + first, position + last, slice(first - start, last - start))
