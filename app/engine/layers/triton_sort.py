"""Pairs of a token and its expert, sorted by expert into blocks of rows, as one Triton kernel.

torch's sort is eight kernels, and what follows it as many. There are few experts, so each has a program that reads
the whole choice: first to count everybody's pairs, which gives where its own blocks begin, then to list its own.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 1024
"""Pairs that a program reads at a time."""


@triton.jit(do_not_specialize=["pairs", "blocks"])
def sort_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    chosen,  # [pairs] int64
    order,  # [blocks * ROWS] int32
    owners,  # [blocks] int32
    pairs,
    blocks,
    EXPERTS: tl.constexpr,
    BINS: tl.constexpr,  # a power of two above EXPERTS
    ROWS: tl.constexpr,
    LANES: tl.constexpr,
):
    expert, lane, bin_ = tl.program_id(0), tl.arange(0, LANES), tl.arange(0, BINS)
    counts = tl.zeros([BINS], tl.int32)
    for start in range(0, pairs, LANES):
        choice = tl.load(chosen + start + lane, mask=start + lane < pairs, other=EXPERTS).to(tl.int32)
        counts += tl.histogram(choice, BINS)
    counts = tl.where(bin_ < EXPERTS, counts, 0)
    each = (counts + ROWS - 1) // ROWS
    first = tl.sum(tl.where(bin_ < expert, each, 0), 0)
    count = tl.sum(tl.where(bin_ == expert, counts, 0), 0)
    own = (count + ROWS - 1) // ROWS

    listed = 0
    for start in range(0, pairs, LANES):
        choice = tl.load(chosen + start + lane, mask=start + lane < pairs, other=EXPERTS).to(tl.int32)
        here = (choice == expert).to(tl.int32)
        rank = listed + tl.cumsum(here, 0) - 1
        tl.store(order + first * ROWS + rank, start + lane, mask=here > 0)
        listed += tl.sum(here, 0)
    row = tl.arange(0, ROWS)
    tl.store(order + first * ROWS + count + row, -1, mask=count + row < own * ROWS)
    last = tl.where(expert == EXPERTS - 1, blocks, first + own)  # behind the last expert's blocks there is nothing
    for start in range(first, last, LANES):
        block = start + lane
        tl.store(owners + block, tl.where(block < first + own, expert, -1), mask=block < last)


def sort_pairs(chosen: Tensor, experts: int, rows: int) -> tuple[Tensor, Tensor]:
    """`chosen` `[t, k]` int64, contiguous, to the pairs in order, int32 `[blocks * rows]`, and the expert of each
    block of `rows`, int32 `[blocks]`. A pair is its place in `chosen`; -1 is none, and fills an expert's last block.
    """
    pairs = chosen.numel()
    blocks = blocks_of(pairs, experts, rows)
    order = torch.empty(blocks * rows, dtype=torch.int32, device=chosen.device)
    owners = torch.empty(blocks, dtype=torch.int32, device=chosen.device)
    with torch.cuda.device_of(chosen):
        sort_kernel[experts,](chosen, order, owners, pairs, blocks, **tiles(experts, rows))
    return order, owners


def blocks_of(pairs: int, experts: int, rows: int) -> int:
    """The most blocks that so many pairs can need."""
    return pairs // rows + min(experts, pairs)


def tiles(experts: int, rows: int) -> dict[str, int]:
    """The kernel's constants."""
    return {
        "EXPERTS": experts,
        "BINS": int(triton.next_power_of_2(experts + 1)),
        "ROWS": rows,
        "LANES": LANES,
        "num_warps": 4,
    }
