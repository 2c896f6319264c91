"""The KV cache by itself: growth, copies between shelves, and what is given back."""

import torch

from app.engine.kv.cache import SlotCache
from app.engine.kv.layout import lay_out
from app.engine.scheduling.sequence import Chunk, Copy, Decision, Sequence, Slot

CPU = torch.device("cpu")
LAYERS = 2
BUDGET = 8192


def store(cache: SlotCache, slot: Slot, numbers: torch.Tensor) -> None:
    """Write `[heads, tokens, dim]` into a slot, in every layer, as a prompt chunk would."""
    length = numbers.shape[1]
    sequence = Sequence("s", [0] * length, 1)
    sequence.slot = slot
    decision = Decision({}, (), (), (Chunk(sequence, 0, length),))
    cache.layouts = {CPU: lay_out(decision, CPU, numbers.dtype)}
    for layer in range(LAYERS):
        cache.update(numbers[None], numbers[None] + 1, layer)


def held(cache: SlotCache, slot: Slot, length: int) -> torch.Tensor:
    keys, values = cache.view(LAYERS - 1, slot.capacity, slice(slot.index, slot.index + 1), length)
    assert torch.equal(keys + 1, values)
    return keys[0]


def test_growing_keeps_what_is_there() -> None:
    cache, numbers = SlotCache(BUDGET), torch.rand(2, 30, 4)
    cache.reserve({256: 1})
    store(cache, Slot(256, 0), numbers)
    cache.reserve({256: 9, 512: 1})
    assert torch.equal(held(cache, Slot(256, 0), 30), numbers)


def test_a_copy_into_a_shelf_that_was_never_written() -> None:
    cache, numbers = SlotCache(BUDGET), torch.rand(2, 30, 4)
    cache.reserve({256: 1, 1024: 2})
    store(cache, Slot(256, 0), numbers)
    cache.copy([Copy(Slot(256, 0), Slot(1024, 1), 20)])
    assert torch.equal(held(cache, Slot(1024, 1), 20), numbers[:, :20])


def test_a_swap_keeps_both() -> None:
    cache, one, two = SlotCache(BUDGET), torch.rand(2, 30, 4), torch.rand(2, 30, 4)
    cache.reserve({256: 2})
    store(cache, Slot(256, 0), one)
    store(cache, Slot(256, 1), two)
    cache.copy([Copy(Slot(256, 1), Slot(256, 0), 30, swap=True)])
    assert torch.equal(held(cache, Slot(256, 0), 30), two)
    assert torch.equal(held(cache, Slot(256, 1), 30), one)


def bytes_of(cache: SlotCache) -> int:
    """Of all buffers that the cache holds."""
    pairs = [pair for shelves in cache._buffers for pair in shelves.values()]
    return sum(tensor.nbytes for pair in pairs for tensor in pair)


def test_shrinking_gives_memory_back_and_the_shelf_can_grow_again() -> None:
    cache, numbers = SlotCache(BUDGET), torch.rand(2, 30, 4)
    cache.reserve({256: 8})
    store(cache, Slot(256, 7), numbers)
    full = bytes_of(cache)
    cache.shrink({256: 2})
    assert bytes_of(cache) == full // 4
    cache.shrink({})
    assert bytes_of(cache) == 0
    cache.reserve({256: 1})
    store(cache, Slot(256, 0), numbers)
    assert torch.equal(held(cache, Slot(256, 0), 30), numbers)


def test_what_lies_behind_a_sequence_is_finite() -> None:
    """Attention multiplies it by zero, and zero times NaN is NaN."""
    cache = SlotCache(BUDGET)
    cache.reserve({256: 4})
    store(cache, Slot(256, 2), torch.rand(2, 3, 4))
    keys, values = cache.view(0, 256, slice(0, 4), 256)
    assert torch.isfinite(keys).all()
    assert torch.isfinite(values).all()


def test_growing_in_steps_never_passes_the_budget() -> None:
    cache = SlotCache(2048)
    cache.reserve({256: 4, 512: 1})
    store(cache, Slot(256, 3), torch.rand(2, 3, 4))
    store(cache, Slot(512, 0), torch.rand(2, 3, 4))
    cache.reserve({256: 5, 512: 1})
    per_token = LAYERS * 2 * 2 * 4 * 4  # keys and values, two heads of four numbers of four bytes
    assert 5 * 256 + 512 <= bytes_of(cache) / per_token <= 2048


def test_a_shelf_gives_back_what_another_needs_but_not_what_is_about_to_be_copied() -> None:
    cache, numbers = SlotCache(2048), torch.rand(2, 30, 4)
    cache.reserve({256: 8})
    store(cache, Slot(256, 2), numbers)
    copy = Copy(Slot(256, 2), Slot(1024, 0), 30)
    cache.reserve({1024: 1}, [copy])
    cache.copy([copy])
    assert torch.equal(held(cache, Slot(1024, 0), 30), numbers)
    cache.reserve({1024: 2})
    assert bytes_of(cache) <= 2048 * LAYERS * 2 * 2 * 4 * 4


def test_growing_copies_everything_that_was_written() -> None:
    """By prompts of several lengths, by a copy and by decoding: whichever went furthest."""
    cache, long, short = SlotCache(BUDGET), torch.rand(2, 200, 4), torch.rand(2, 3, 4)
    cache.reserve({256: 3})
    store(cache, Slot(256, 0), long)
    store(cache, Slot(256, 1), short)
    cache.copy([Copy(Slot(256, 0), Slot(256, 2), 200)])
    cache.reserve({256: 6})
    assert torch.equal(held(cache, Slot(256, 0), 200), long)
    assert torch.equal(held(cache, Slot(256, 1), 3), short)
    assert torch.equal(held(cache, Slot(256, 2), 200), long)
