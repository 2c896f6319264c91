"""The kernel of attention by heads gives what plain torch gives: interpreted on a CPU, compiled on a GPU."""

import pytest
import torch

from app.engine.attention.backends.heads import HeadPages, HeadsBackend
from app.engine.attention.backends.triton import heads
from app.engine.attention.paged_plan import Group
from app.engine.kv.shape import HeadsShape
from tests.support.kernels import DEVICE, PAGE, random

TOLERANCE = 1e-3
"""In 16 bits."""


def compare(lengths: list[int], *, key_heads: int, group: int, dim: int) -> None:
    backend = HeadsBackend(HeadsShape(key_heads, dim), PAGE, torch.float32)
    storage = HeadPages(random(12, key_heads, PAGE, dim), random(12, key_heads, PAGE, dim, seed=2))
    query = random(len(lengths), key_heads * group, dim, seed=1).transpose(0, 1)  # as stock modules give it
    longest = -(-max(lengths) // PAGE)
    tables = torch.randint(12, (len(lengths), longest), generator=torch.Generator().manual_seed(3)).to(DEVICE)
    rows = Group(slice(0, len(lengths)), tables, torch.tensor(lengths).to(DEVICE))
    got = heads.attend(query, storage.keys, storage.values, rows.tables, rows.lengths, scaling=0.2)
    torch.testing.assert_close(got, backend.decode(rows, storage, query, 0.2), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 7])
def test_one_row(length: int) -> None:
    compare([length], key_heads=2, group=3, dim=16)


@pytest.mark.parametrize(
    ("key_heads", "group", "dim"),
    [(3, 3, 64), (2, 4, 128), (1, 1, 16), (2, 20, 24), (4, 1, 32)],
    ids=["smollm", "wide", "one head", "odd widths, large groups", "a key for each head"],
)
def test_rows_of_many_lengths(key_heads: int, group: int, dim: int) -> None:
    compare([1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5], key_heads=key_heads, group=group, dim=dim)


def test_nothing_behind_a_length_is_read_and_no_tokens_give_zeros() -> None:
    storage = HeadPages(random(3, 2, PAGE, 16), random(3, 2, PAGE, 16, seed=2))
    tables = torch.tensor([[0, 7_000_000], [1, 2], [8_000_000, 8_000_000]], device=DEVICE)  # some are not pages
    lengths = torch.tensor([1, PAGE + 3, 0], device=DEVICE)
    query = random(6, 3, 16, seed=1)
    clean = heads.attend(query, storage.keys, storage.values, tables, lengths, scaling=0.2)
    for pages in (storage.keys, storage.values):
        pages[0, :, 1:] = float("nan")
        pages[2, :, 3:] = float("nan")
    poisoned = heads.attend(query, storage.keys, storage.values, tables, lengths, scaling=0.2)
    assert torch.equal(poisoned, clean)
    assert clean.isfinite().all()
    assert not clean[2].any()


def test_16_bits_are_near_to_exact_numbers() -> None:
    """Measured: at most 2.7e-4 of a row's norm."""
    keys, values = random(6, 2, PAGE, 24).half(), random(6, 2, PAGE, 24, seed=2).half()
    lengths, query = [1, PAGE + 3, 2 * PAGE], random(6, 3, 24, seed=1).half()
    tables = torch.tensor([[0, 1], [2, 3], [4, 5]], device=DEVICE)
    got = heads.attend(query, keys, values, tables, torch.tensor(lengths, device=DEVICE), scaling=0.2)
    for row, length in enumerate(lengths):
        key, value = (
            pages[tables[row]].transpose(0, 1).flatten(1, 2)[:, :length].double() for pages in (keys, values)
        )
        scores = query[:, row].double().view(2, 3, 24) @ key.mT * 0.2
        expected = (scores.softmax(-1) @ value).flatten(0, 1)
        assert (got[row] - expected).norm() < TOLERANCE * expected.norm()
