"""Attention over latents, in plain torch, over pages in which something else lies after a sequence's end.

Pages are not cleared when they change hands: a row that failed may have left NaN there, and NaN times a weight of 0
is NaN.
"""

import pytest
import torch
from torch import Tensor

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.paged_plan import Chunk, Group
from app.engine.kv.shape import LatentShape

PAGE, LENGTHS = 4, [1, 6, 8]
TABLES = torch.tensor([[3, 3], [1, 4], [0, 2]])  # a short table goes on with its first page
ROWS = Group(slice(0, 3), TABLES, torch.tensor(LENGTHS))
UNUSED = [(3, 1), (4, 2), (5, 0)]  # from this place of a page on


def spoil(pages: Tensor) -> Tensor:
    """`[pages, size, numbers]`, with NaN wherever nothing of these sequences is."""
    spoilt = pages.clone()
    for page, first in UNUSED:
        spoilt[page, first:] = torch.nan
    return spoilt


@pytest.fixture
def backend() -> LatentsBackend:
    return LatentsBackend(LatentShape(6, 2), PAGE, torch.float32)


def test_rows_that_decode(backend: LatentsBackend) -> None:
    pages, query = torch.randn(6, PAGE, 8), torch.randn(5, 3, 8)
    output = backend.decode(ROWS, spoil(pages), query, 0.3)
    assert torch.equal(output, backend.decode(ROWS, pages, query, 0.3))
    for row, length in enumerate(LENGTHS):
        text = pages[TABLES[row]].flatten(0, 1)[:length]
        torch.testing.assert_close(output[:, row], (query[:, row] @ text.mT * 0.3).softmax(dim=-1) @ text[:, :6])


@pytest.mark.parametrize("start", [0, 3, 4])
def test_a_prompt_chunk_that_ends_within_a_page(backend: LatentsBackend, start: int) -> None:
    chunk = Chunk(slice(0, 6 - start), TABLES[1], start, 6)
    pages, query = torch.randn(6, PAGE, 8), torch.randn(5, 6 - start, 8)
    output = backend.chunk(chunk, spoil(pages), query, 0.3)
    assert torch.equal(output, backend.chunk(chunk, pages, query, 0.3))
