"""In which form a step's experts are computed, and how large the tiles of their kernels are.

The form depends on the number of tokens alone, so that a captured step has one; the tiles also on the card.
"""

from functools import cache
from typing import Any

import torch
import triton

MOST_TOKENS = 64
"""Tokens of a step that is not sorted: one block of rows."""

PAIRS, EXPERTS, SORTED = 0, 1, 2
"""The forms of `triton_experts.py`."""

KIB = 1024


def form_of(tokens: int, k: int, experts: int) -> int:
    """By the number of tokens alone."""
    if tokens > MOST_TOKENS:
        return SORTED
    return PAIRS if tokens * k < experts else EXPERTS


@cache
def shared_memory(device: torch.device) -> int:
    """Bytes that one block of threads can have; 0 where there is no GPU."""
    if device.type != "cuda":
        return 0
    properties: Any = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)


def rows_of(tokens: int, k: int, experts: int, room: int) -> int:
    """Rows of one block: more where experts have enough of them, on cards with `room` for such tiles."""
    if tokens <= MOST_TOKENS:
        return max(16, int(triton.next_power_of_2(tokens)))
    return 128 if room >= 160 * KIB and tokens * k >= 96 * experts else 64


def constants_of(
    width: int, inner: int, k: int, *, form: int, rows: int, experts: int, shared: int
) -> dict[str, int]:
    """What both kernels are compiled for."""
    return {
        "WIDTH": width,
        "INNER": inner,
        "FORM": form,
        "TOKENS": rows,
        "SHARED": shared,
        "K": k,
        "K_BLOCK": triton.next_power_of_2(k),
        "PAIRS_BLOCK": triton.next_power_of_2(experts),
    }


def tiles(dtype: torch.dtype, *, form: int, rows: int, room: int, up: bool) -> dict[str, int]:
    """How a kernel (`up`: the first) is tiled. Measured on an H200; `room` is the card's shared memory: 227 KiB for a
    block on Hopper, 163 on A100, 99 on consumer cards, whose tiles are the default."""
    if dtype.itemsize != 2:
        return _tiles(columns=32, depth=32, warps=4, stages=2)
    if form != SORTED:
        return _tiles(64, 128, 4, 3) if form == EXPERTS and room >= 160 * KIB else _tiles(32, 64, 4, 4)
    if rows < 128:
        return _tiles(64 if up else 128, 64, 4, 3)
    if room >= 200 * KIB:
        return _tiles(128 if up else 256, 64, 8, 4)
    return _tiles(128, 64, 8, 3)


def _tiles(columns: int, depth: int, warps: int, stages: int) -> dict[str, int]:
    return {"COLUMNS": columns, "DEPTH": depth, "num_warps": warps, "num_stages": stages}
