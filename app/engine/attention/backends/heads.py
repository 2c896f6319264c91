"""Attention of models that keep keys and values for each head, over pages, in plain torch.

It works for every such model on every device, and tests compare faster backends with it. Pages are gathered in
blocks, so that a step's scratch does not grow with the context.

Shapes: n sequences, k key heads, g query heads that share one, d their size, l tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from app.engine.attention.backends.partial import Part, blocks, hidden_in_chunk, merge, weigh
from app.engine.attention.paged_plan import Chunk, Group, PagedPlan, plan_pages
from app.engine.attention.step import Step
from app.engine.kv.shape import HeadsShape
from app.engine.kv.storage import discard, zeros


@dataclass(frozen=True, slots=True)
class HeadPages:
    """A layer's pages, each `[pages, k, size, d]`: the tokens of one head are adjacent."""

    keys: Tensor
    values: Tensor


class HeadsBackend:
    """See `app.engine.attention.protocol.Backend`."""

    name = "torch over pages"
    reads_tables = False

    def __init__(self, shape: HeadsShape, page_size: int, dtype: torch.dtype) -> None:
        self._shape = shape
        self._size = page_size
        self._dtype = dtype

    @property
    def page_size(self) -> int:
        return self._size

    @property
    def page_bytes(self) -> int:
        return self._size * self._shape.elements * self._dtype.itemsize

    def allocate(self, pages: int, device: torch.device) -> HeadPages:
        shape = (pages, self._shape.heads, self._size, self._shape.dim)
        return HeadPages(zeros(shape, self._dtype, device), zeros(shape, self._dtype, device))

    def plan(self, step: Step, device: torch.device) -> PagedPlan:
        return plan_pages(step, self._size, device)

    def write(self, plan: PagedPlan, storage: HeadPages, keys: Tensor, values: Tensor) -> None:
        pages, places = plan.slots // self._size, plan.slots % self._size
        storage.keys[pages, :, places] = keys[0].transpose(0, 1)
        storage.values[pages, :, places] = values[0].transpose(0, 1)

    def discard(self, storage: HeadPages, pages: Sequence[int]) -> None:
        for buffer in (storage.keys, storage.values):
            discard(buffer, pages)

    def copy(self, storage: HeadPages, sources: Tensor, targets: Tensor) -> None:
        for pages in (storage.keys, storage.values):
            pages[targets] = pages[sources]

    def attend(self, plan: PagedPlan, storage: HeadPages, query: Tensor, scaling: float) -> Tensor:
        """A stock module's queries, `[1, heads, tokens, dim]` to `[1, tokens, heads, dim]`."""
        parts = [self.decode(group, storage, query[0, :, group.rows], scaling) for group in plan.groups]
        parts += [self.chunk(chunk, storage, query[0, :, chunk.rows], scaling) for chunk in plan.chunks]
        output = parts[0] if len(parts) == 1 else torch.cat(parts)
        return output.unsqueeze(0)

    def decode(self, group: Group, storage: HeadPages, query: Tensor, scaling: float) -> Tensor:
        """One row of each sequence, `[h, n, d]` to `[n, h, d]`."""
        heads, count, dim = query.shape
        query = query.transpose(0, 1).reshape(count, self._shape.heads, -1, dim)
        return merge(self._decode_parts(group, storage, query, scaling)).reshape(count, heads, dim)

    def _decode_parts(self, group: Group, storage: HeadPages, query: Tensor, scaling: float) -> Iterator[Part]:
        for first, last in self._blocks(group.tables.shape, query[..., 0].numel()):
            tables = group.tables[:, first:last]
            keys, values = self._gather(storage.keys, tables), self._gather(storage.values, tables)
            positions = torch.arange(first * self._size, last * self._size, device=query.device)
            hidden = (positions >= group.lengths[:, None])[:, None, None, :]
            values = values.masked_fill_(hidden.transpose(2, 3), 0)  # values after a sequence's end may be anything
            yield _attend(query, keys, values, scaling, hidden)

    def chunk(self, chunk: Chunk, storage: HeadPages, query: Tensor, scaling: float) -> Tensor:
        """The rows of one sequence, `[h, q, d]` to `[q, h, d]`."""
        heads, rows, dim = query.shape
        query = query.reshape(1, self._shape.heads, -1, dim)  # g * q rows for each key head
        return merge(self._chunk_parts(chunk, storage, query, scaling)).reshape(heads, rows, dim).transpose(0, 1)

    def _chunk_parts(self, chunk: Chunk, storage: HeadPages, query: Tensor, scaling: float) -> Iterator[Part]:
        """The context before the chunk, and the chunk itself."""
        context = -(-chunk.start // self._size)
        for first, last in self._blocks((1, context), query[..., 0].numel()):
            keys, values = self._read(storage, chunk.table[first:last], chunk.start - first * self._size)
            yield _attend(query, keys, values, scaling, None)
        first = chunk.start // self._size
        keys, values = self._read(storage, chunk.table[first:], chunk.end - first * self._size)
        own = chunk.start - first * self._size
        rows = chunk.end - chunk.start
        hidden = hidden_in_chunk(rows, query.device)
        if hidden is not None:
            hidden = hidden.repeat(query.shape[2] // rows, 1)
        yield _attend(query, keys[:, :, own:], values[:, :, own:], scaling, hidden)

    def _read(self, storage: HeadPages, table: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """The first `length` tokens of these pages at most, `[1, k, l, d]` each."""
        keys, values = self._gather(storage.keys, table[None]), self._gather(storage.values, table[None])
        return keys[:, :, :length], values[:, :, :length]

    def _gather(self, pages: Tensor, tables: Tensor) -> Tensor:
        """`[n, pages]` to `[n, k, l, d]`, a copy."""
        count, length = tables.shape
        gathered = pages[tables].transpose(1, 2)
        return gathered.reshape(count, self._shape.heads, length * self._size, self._shape.dim)

    def _blocks(self, tables: Sequence[int], rows: int) -> Iterator[tuple[int, int]]:
        """Of block tables `[n, pages]`, for `rows` query rows of all heads together."""
        sequences, pages = tables
        return blocks(pages, self._size, scores=rows, numbers=sequences * self._shape.elements)


def _attend(query: Tensor, keys: Tensor, values: Tensor, scaling: float, hidden: Tensor | None) -> Part:
    """`[n, k, rows, d]` against `[n, k, l, d]`."""
    scores = torch.matmul(query, keys.mT).float().mul_(scaling)
    weights, lse = weigh(scores, hidden)
    return torch.matmul(weights.to(values.dtype), values), lse
