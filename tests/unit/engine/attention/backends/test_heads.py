"""Attention by heads, in plain torch, over pages in which something else lies after a sequence's end.

Pages are not cleared when they change hands: a row that failed may have left NaN there, and NaN times a weight of 0
is NaN.
"""

import pytest
import torch
from torch import Tensor

from app.engine.attention.backends.heads import HeadPages, HeadsBackend
from app.engine.attention.paged_plan import Chunk, Group
from app.engine.kv.shape import HeadsShape

PAGE, LENGTHS = 4, [1, 6, 8]
TABLES = torch.tensor([[3, 3], [1, 4], [0, 2]])  # a short table goes on with its first page
ROWS = Group(slice(0, 3), TABLES, torch.tensor(LENGTHS))
UNUSED = [(3, 1), (4, 2), (5, 0)]  # from this place of a page on


def stored(keys: Tensor, values: Tensor, *, spoilt: bool) -> HeadPages:
    """Of `[pages, size, heads, dim]`, with NaN wherever nothing of these sequences is."""
    both = [keys.clone(), values.clone()]
    for page, first in UNUSED if spoilt else ():
        for pages in both:
            pages[page, first:] = torch.nan
    return HeadPages(both[0].transpose(1, 2), both[1].transpose(1, 2))


@pytest.fixture
def backend() -> HeadsBackend:
    return HeadsBackend(HeadsShape(2, 8), PAGE, torch.float32)


def test_rows_that_decode(backend: HeadsBackend) -> None:
    keys, values = torch.randn(6, PAGE, 2, 8), torch.randn(6, PAGE, 2, 8)
    query = torch.randn(6, 3, 8)
    output = backend.decode(ROWS, stored(keys, values, spoilt=True), query, 0.3)
    assert torch.equal(output, backend.decode(ROWS, stored(keys, values, spoilt=False), query, 0.3))
    for row, length in enumerate(LENGTHS):
        key, value = (pages[TABLES[row]].flatten(0, 1)[:length].transpose(0, 1) for pages in (keys, values))
        weights = (query[:, row].view(2, 3, 8) @ key.mT * 0.3).softmax(dim=-1)
        torch.testing.assert_close(output[row], (weights @ value).flatten(0, 1))


@pytest.mark.parametrize("start", [0, 3, 4])
def test_a_prompt_chunk_that_ends_within_a_page(backend: HeadsBackend, start: int) -> None:
    chunk = Chunk(slice(0, 6 - start), TABLES[1], start, 6)
    keys, values = torch.randn(6, PAGE, 2, 8), torch.randn(6, PAGE, 2, 8)
    query = torch.randn(6, 6 - start, 8)
    output = backend.chunk(chunk, stored(keys, values, spoilt=True), query, 0.3)
    assert torch.equal(output, backend.chunk(chunk, stored(keys, values, spoilt=False), query, 0.3))
