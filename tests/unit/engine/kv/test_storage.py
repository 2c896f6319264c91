"""The pages' memory on a CPU: it is taken when tokens are written, and given back without a copy."""

import mmap

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from app.engine.kv.storage import discard, zeros
from tests.support.resident import by_small_pages, resident

pytestmark = by_small_pages

CPU = torch.device("cpu")
PAGES, NUMBERS = 512, 2048  # 8 KiB a page, two of the system's


def test_a_page_takes_memory_when_it_is_written_and_none_when_it_was_given_back() -> None:
    buffer = zeros((PAGES, NUMBERS), torch.float32, CPU)
    assert resident(buffer) == 0
    buffer[100:200] = 1.0
    assert resident(buffer) == 100 * buffer[0].nbytes
    discard(buffer, range(120, 150))
    assert resident(buffer) == 70 * buffer[0].nbytes


@given(st.sets(st.integers(0, PAGES - 1)))
def test_pages_that_were_given_back_are_zeros_and_the_others_keep_their_numbers(pages: set[int]) -> None:
    buffer = zeros((PAGES, NUMBERS), torch.float32, CPU)
    buffer[:] = torch.arange(1, PAGES + 1)[:, None]
    discard(buffer, list(pages))
    assert resident(buffer) == (PAGES - len(pages)) * buffer[0].nbytes
    expected = [0.0 if page in pages else page + 1.0 for page in range(PAGES)]
    assert torch.equal(buffer, torch.tensor(expected)[:, None].expand(PAGES, NUMBERS))


@pytest.mark.parametrize("numbers", [96, 1536])  # a page smaller than the system's, and one and a half of them
def test_what_shares_a_page_of_the_systems_with_others_is_left(numbers: int) -> None:
    buffer = zeros((4096, numbers), torch.float32, CPU)
    buffer[:] = 1.0
    discard(buffer, [1, *range(1000, 2000)])
    assert resident(buffer) == pytest.approx(buffer.nbytes - 1001 * buffer[0].nbytes, abs=4 * mmap.PAGESIZE)
    assert bool((buffer[[0, *range(2, 1000), *range(2000, 4096)]] == 1.0).all())
