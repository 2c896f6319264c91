"""Latent attention over pages in plain torch. It works on every device, and tests compare faster backends with it.

A page holds, for each token, its latent and then its rotated key. In latent space all heads share them: a
query of `rank + rope` numbers meets them as keys, and the first `rank` of them as values. Pages are gathered in
blocks, so that a step's scratch does not grow with the context.

Shapes: n sequences, h heads, q queries, l tokens.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from app.engine.attention.backends.partial import Part, blocks, hidden_in_chunk, merge, weigh
from app.engine.attention.paged_plan import Chunk, Group, PagedPlan, plan_pages
from app.engine.attention.step import Step
from app.engine.kv.shape import LatentShape
from app.engine.kv.storage import discard, zeros


class LatentsBackend:
    """See `app.engine.attention.protocol.Backend`; a layer's storage is one tensor, `[pages, size, rank + rope]`."""

    name = "torch over pages of latents"
    reads_tables = False

    def __init__(self, shape: LatentShape, page_size: int, dtype: torch.dtype) -> None:
        self._rank = shape.rank
        self._width = shape.elements
        self._size = page_size
        self._dtype = dtype

    @property
    def page_size(self) -> int:
        return self._size

    @property
    def page_bytes(self) -> int:
        return self._size * self._width * self._dtype.itemsize

    def allocate(self, pages: int, device: torch.device) -> Tensor:
        return zeros((pages, self._size, self._width), self._dtype, device)

    def plan(self, step: Step, device: torch.device) -> PagedPlan:
        return plan_pages(step, self._size, device)

    def write(self, plan: PagedPlan, storage: Tensor, keys: Tensor, values: Tensor) -> None:
        """`keys` are the latents, `values` the rotated keys, `[1, 1, tokens, …]` each."""
        rows = torch.cat((keys[0, 0], values[0, 0]), dim=-1)
        storage.view(-1, self._width).index_copy_(0, plan.slots, rows)

    def discard(self, storage: Tensor, pages: Sequence[int]) -> None:
        discard(storage, pages)

    def copy(self, storage: Tensor, sources: Tensor, targets: Tensor) -> None:
        storage[targets] = storage[sources]

    def decode(self, group: Group, storage: Tensor, query: Tensor, scaling: float) -> Tensor:
        """One row of each sequence, `[h, n, rank + rope]` to `[h, n, rank]`."""
        return merge(self._decode_parts(group, storage, query.transpose(0, 1), scaling)).transpose(0, 1)

    def _decode_parts(self, group: Group, storage: Tensor, query: Tensor, scaling: float) -> Iterator[Part]:
        sequences, pages = group.tables.shape
        for first, last in self._blocks(pages, sequences, query.shape[0] * query.shape[1]):
            rows = storage[group.tables[:, first:last]].flatten(1, 2)
            positions = torch.arange(first * self._size, last * self._size, device=query.device)
            hidden = (positions >= group.lengths[:, None])[:, None, :]
            rows = rows.masked_fill_(hidden.transpose(1, 2), 0)  # values after a sequence's end may be anything
            yield self._part(query, rows, scaling, hidden)

    def chunk(self, chunk: Chunk, storage: Tensor, query: Tensor, scaling: float) -> Tensor:
        """The rows of one sequence, `[h, q, rank + rope]` to `[h, q, rank]`."""
        heads, count, width = query.shape
        folded = query.reshape(1, heads * count, width)
        return merge(self._chunk_parts(chunk, storage, folded, scaling)).view(heads, count, self._rank)

    def _chunk_parts(self, chunk: Chunk, storage: Tensor, query: Tensor, scaling: float) -> Iterator[Part]:
        for rows in self.context(chunk, storage, scores_per_token=query.shape[1], numbers_per_token=self._width):
            yield self._part(query, rows[None], scaling, None)
        count = chunk.end - chunk.start
        hidden = hidden_in_chunk(count, query.device)
        if hidden is not None:
            hidden = hidden.repeat(query.shape[1] // count, 1)
        yield self._part(query, self.own(chunk, storage)[None], scaling, hidden)

    def context(
        self, chunk: Chunk, storage: Tensor, *, scores_per_token: int, numbers_per_token: int
    ) -> Iterator[Tensor]:
        """The context before the chunk, in blocks `[l, rank + rope]`: as long as what the caller holds for each token
        allows."""
        pages = -(-chunk.start // self._size)
        for first, last in blocks(pages, self._size, scores=scores_per_token, numbers=numbers_per_token):
            rows = storage[chunk.table[first:last]].flatten(0, 1)
            yield rows[: chunk.start - first * self._size]

    def own(self, chunk: Chunk, storage: Tensor) -> Tensor:
        """The chunk's own rows, as they were stored, `[q, rank + rope]`."""
        first = chunk.start // self._size
        rows = storage[chunk.table[first:]].flatten(0, 1)
        return rows[chunk.start - first * self._size : chunk.end - first * self._size]

    def _part(self, query: Tensor, rows: Tensor, scaling: float, hidden: Tensor | None) -> Part:
        """`[n, r, rank + rope]` against `[n, l, rank + rope]`."""
        weights, lse = weigh(_products(query, rows).mul_(scaling), hidden)
        return torch.bmm(weights.to(rows.dtype), rows[..., : self._rank]), lse

    def _blocks(self, pages: int, sequences: int, scores_per_token: int) -> Iterator[tuple[int, int]]:
        return blocks(pages, self._size, scores=scores_per_token, numbers=sequences * self._width)


def _products(rows: Tensor, columns: Tensor) -> Tensor:
    """rows · columns in float32, `[n, a, d]` and `[n, b, d]` to `[n, a, b]`.

    CUDA gives the float32 that it summed in; elsewhere the sums are rounded to the input's type first.
    """
    if rows.device.type == "cuda" and rows.dtype != torch.float32:
        return torch.bmm(rows, columns.mT, out_dtype=torch.float32)
    return torch.bmm(rows, columns.mT).float()
