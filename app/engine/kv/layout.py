"""Where the rows of one step lie: the scheduler's decision as index tensors, once per device.

A step computes `tokens` rows of hidden state, `[1, tokens, hidden]`: first one row of every decoding sequence,
ordered by slot, then the prompt chunks. A `Group` is the decoding rows of one shelf, attended in one call; a
`Span` is one prompt chunk.
"""

from collections.abc import Sequence as Items
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from torch import Tensor

from app.engine.scheduling.sequence import Chunk, Decision

LENGTH_BUCKET = 16
"""Attended lengths are rounded up to this: fewer shapes for the kernels and allocators to meet."""

LONG_SPAN = 256
"""Tokens that a prompt chunk attends to, from which matrix products over all its rows beat a kernel that takes each
row by itself (docs/decisions/0004-compiled-kernels.md)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Decoding sequences of one shelf. They lie in a window of its slots; `dense` if they are all of it."""

    capacity: int
    tokens: slice  # their rows in the step
    window: slice  # of slots
    slots: Tensor  # theirs, [n]
    rows: Tensor  # theirs within the window, [n]
    positions: Tensor  # where the new token goes, [n]
    length: int  # attended length, rounded up
    mask: Tensor  # additive, [window, 1, 1, length]
    dense: bool


@dataclass(frozen=True, eq=False)
class Span:
    """A prompt chunk: the positions start…end-1 of one slot."""

    capacity: int
    slot: int
    start: int
    end: int
    tokens: slice
    device: torch.device
    dtype: torch.dtype

    @cached_property
    def mask(self) -> Tensor | None:
        """Additive, [end - start, end]; none for a chunk that begins at position 0, which is plainly causal. Made on
        the device when the first layer asks, because some kernels need none and it can be tens of megabytes."""
        if self.start == 0:
            return None
        positions = torch.arange(self.end, device=self.device)
        hidden = positions[None, :] > positions[self.start :, None]
        mask = torch.zeros(self.end - self.start, self.end, dtype=self.dtype, device=self.device)
        return mask.masked_fill_(hidden, float("-inf"))


@dataclass(frozen=True, slots=True)
class Rows:
    """Every row of a step by itself, as the compiled kernels read it."""

    table: Tensor  # [tokens, 4] int64: index into `shelves`, slot, position, attended length (0: a span sees to it)
    shelves: tuple[tuple[int, int], ...]  # (capacity, the longest that a slot is filled by this step)
    longest: int  # attended length, at least 1


@dataclass(frozen=True, slots=True)
class Layout:
    """One step on one device: for stock modules groups and spans, for the kernels rows, and spans that are long."""

    groups: tuple[Group, ...]
    spans: tuple[Span, ...]
    position_ids: Tensor  # [1, tokens]
    rows: Rows | None = None


def token_ids(decision: Decision) -> list[int]:
    """The step's input tokens, in the order of its rows."""
    chunks = (*decision.decode, *decision.prefill)
    return [token for c in chunks for token in c.sequence.tokens[c.start : c.start + c.length]]


def sampled_rows(decision: Decision) -> tuple[list[Chunk], list[int]]:
    """The chunks that end their sequence's tokens, and the row of the step that each one's next token comes from."""
    chunks, rows, offset = [], [], 0
    for chunk in (*decision.decode, *decision.prefill):
        offset += chunk.length
        if chunk.last:
            chunks.append(chunk)
            rows.append(offset - 1)
    return chunks, rows


def lay_out(decision: Decision, device: torch.device, dtype: torch.dtype) -> Layout:
    """The decision's layout on a device; masks in the model's dtype."""
    groups, offset = [], 0
    for capacity, chunks in groupby(decision.decode, key=lambda chunk: chunk.sequence.placed.capacity):
        members = list(chunks)
        groups.append(_group(capacity, members, offset, device, dtype))
        offset += len(members)
    spans = []
    for chunk in decision.prefill:
        spans.append(_span(chunk, offset, device, dtype))
        offset += chunk.length
    positions = [p for c in (*decision.decode, *decision.prefill) for p in range(c.start, c.start + c.length)]
    return Layout(tuple(groups), tuple(spans), torch.tensor([positions]).to(device))


def lay_out_rows(decision: Decision, dtype: torch.dtype) -> Layout:
    """The decision's layout for the compiled kernels, on the CPU."""
    lines: list[tuple[int, int, int, int]] = []
    filled: dict[int, int] = {}
    spans, longest = [], 1
    for chunk in (*decision.decode, *decision.prefill):
        slot, end = chunk.sequence.placed, chunk.start + chunk.length
        filled[slot.capacity] = max(end, filled.get(slot.capacity, 0))
        shelf = list(filled).index(slot.capacity)
        long = chunk.length > 1 and end > LONG_SPAN
        if long:
            spans.append(_span(chunk, len(lines), torch.device("cpu"), dtype))
        else:
            longest = max(longest, end)
        lines += [(shelf, slot.index, p, 0 if long else p + 1) for p in range(chunk.start, end)]
    table = torch.tensor(lines)
    return Layout((), tuple(spans), table[:, 2].unsqueeze(0), Rows(table, tuple(filled.items()), longest))


def _group(capacity: int, chunks: Items[Chunk], offset: int, device: torch.device, dtype: torch.dtype) -> Group:
    indices = [chunk.sequence.placed.index for chunk in chunks]  # rising
    first, extent = indices[0], indices[-1] + 1 - indices[0]
    slots = torch.tensor(indices)
    rows = slots - first
    positions = torch.tensor([chunk.start for chunk in chunks])
    length = min(capacity, -(-(int(positions.max()) + 1) // LENGTH_BUCKET) * LENGTH_BUCKET)
    ends = torch.zeros(extent, dtype=torch.long)  # a hole attends to position 0 alone: no row may be all -inf
    ends[rows] = positions
    hidden = torch.arange(length)[None, :] > ends[:, None]
    mask = torch.zeros(extent, length, dtype=dtype).masked_fill_(hidden, float("-inf"))
    return Group(
        capacity=capacity,
        tokens=slice(offset, offset + len(chunks)),
        window=slice(first, first + extent),
        slots=slots.to(device),
        rows=rows.to(device),
        positions=positions.to(device),
        length=length,
        mask=mask[:, None, None, :].to(device),
        dense=extent == len(chunks),
    )


def _span(chunk: Chunk, offset: int, device: torch.device, dtype: torch.dtype) -> Span:
    start, end = chunk.start, chunk.start + chunk.length
    slot = chunk.sequence.placed
    return Span(slot.capacity, slot.index, start, end, slice(offset, offset + chunk.length), device, dtype)
