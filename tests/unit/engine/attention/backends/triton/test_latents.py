"""The kernel of latent attention gives what plain torch gives: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.backends.triton import latents, splits
from app.engine.attention.paged_plan import Group
from app.engine.kv.shape import LatentShape
from tests.support.kernels import DEVICE, PAGE, random


def attend(query: torch.Tensor, *others: Any, rank: int) -> torch.Tensor:
    *where, scaling = others
    return latents.attend(query[..., :rank], query[..., rank:], *where, scaling=scaling)


def group_of(lengths: list[int], pages: int) -> Group:
    """Tables over random pages, all of them as long as the longest; the rows share pages."""
    longest = max(1, *(-(-length // PAGE) for length in lengths))
    chosen = torch.randint(pages, (len(lengths), longest), generator=torch.Generator().manual_seed(3))
    return Group(slice(0, len(lengths)), chosen.to(DEVICE), torch.tensor(lengths).to(DEVICE))


def compare(lengths: list[int], *, heads: int, rank: int, rope: int) -> None:
    backend = LatentsBackend(LatentShape(rank, rope), PAGE, torch.float32)
    storage = random(24, PAGE, rank + rope)
    query = random(heads, len(lengths), rank + rope, seed=1)
    group = group_of(lengths, len(storage))
    got = attend(query, storage, group.tables, group.lengths, 0.2, rank=rank)
    torch.testing.assert_close(got, backend.decode(group, storage, query, 0.2), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("length", [1, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE, 5 * PAGE + 7])
def test_one_row(length: int) -> None:
    compare([length], heads=4, rank=64, rope=16)


@pytest.mark.parametrize(
    ("heads", "rank", "rope"),
    [(16, 512, 64), (16, 32, 16), (4, 48, 8), (20, 64, 16), (1, 16, 16)],
    ids=["lite", "small", "odd widths", "more heads than a block", "one head"],
)
def test_rows_of_many_lengths(heads: int, rank: int, rope: int) -> None:
    compare([1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE + 5], heads=heads, rank=rank, rope=rope)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(1, 6 * PAGE), min_size=1, max_size=9))
def test_any_lengths(lengths: list[int]) -> None:
    compare(lengths, heads=4, rank=32, rope=16)


def test_a_large_batch_is_not_split() -> None:
    assert splits.splits_for(8) == 1
    compare([1 + 13 * number for number in range(8)], heads=2, rank=16, rope=16)


def test_nothing_behind_a_length_is_read() -> None:
    lengths = [1, PAGE, PAGE + 3]
    storage = random(3, PAGE, 48)
    tables = torch.tensor([[0, 7_000_000], [1, 7_000_000], [1, 2]], device=DEVICE)  # pages that there are not
    query = random(4, 3, 48, seed=1)
    clean = attend(query, storage, tables, torch.tensor(lengths, device=DEVICE), 0.2, rank=32)
    storage[0, 1:] = float("nan")
    storage[2, 3:] = float("nan")
    poisoned = attend(query, storage, tables, torch.tensor(lengths, device=DEVICE), 0.2, rank=32)
    assert torch.equal(poisoned, clean)
    assert clean.isfinite().all()


def test_a_row_without_tokens_is_zero_and_disturbs_no_other() -> None:
    storage, query = random(4, PAGE, 48), random(4, 3, 48, seed=1)
    tables = torch.tensor([[0, 1], [9_000_000, 9_000_000], [2, 3]], device=DEVICE)
    got = attend(query, storage, tables, torch.tensor([40, 0, 64], device=DEVICE), 0.2, rank=32)
    full = attend(query, storage, tables.clamp(max=3), torch.tensor([40, 5, 64], device=DEVICE), 0.2, rank=32)
    assert torch.equal(got[:, [0, 2]], full[:, [0, 2]])
    assert not got[:, 1].any()


def test_a_number_that_is_not_finite_stays_visible() -> None:
    """A broken cache must fail its request and not become a plausible answer."""
    storage, query = random(2, PAGE, 48), random(4, 1, 48, seed=1)
    storage[0, 5, 3] = float("nan")
    tables, lengths = torch.tensor([[0, 1]], device=DEVICE), torch.tensor([50], device=DEVICE)
    assert attend(query, storage, tables, lengths, 0.2, rank=32).isnan().all()


def test_tables_and_queries_of_other_layouts() -> None:
    """A captured step keeps its tables page by page, not row by row."""
    storage, query = random(6, PAGE, 48), random(3, 4, 48, seed=1)
    tables, lengths = torch.tensor([[0, 3], [1, 4], [2, 5]], device=DEVICE), torch.tensor([40, 64, 3], device=DEVICE)
    expected = attend(query.transpose(0, 1).contiguous(), storage, tables, lengths, 0.2, rank=32)
    by_page = tables.T.contiguous().T
    assert torch.equal(attend(query.transpose(0, 1), storage, by_page, lengths, 0.2, rank=32), expected)


@pytest.mark.parametrize("shape", [(4, 48, 8), (1, 16, 16)], ids=str)
def test_16_bits_are_near_to_exact_numbers(shape: tuple[int, int, int]) -> None:
    """Measured: at most 2.7e-4 of a row's norm."""
    heads, rank, rope = shape
    storage, lengths = random(6, PAGE, rank + rope).half(), [1, PAGE + 3, 2 * PAGE]
    query, tables = (
        random(heads, 3, rank + rope, seed=1).half(),
        torch.tensor([[0, 1], [2, 3], [4, 5]], device=DEVICE),
    )
    got = attend(query, storage, tables, torch.tensor(lengths, device=DEVICE), 0.2, rank=rank)
    for row, length in enumerate(lengths):
        cached = storage[tables[row]].flatten(0, 1)[:length].double()
        expected = (query[:, row].double() @ cached.T * 0.2).softmax(-1) @ cached[:, :rank]
        assert (got[:, row] - expected).norm() < 1e-3 * expected.norm()
