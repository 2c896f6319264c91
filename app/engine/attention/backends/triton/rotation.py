"""What latent attention does between its projections and its pages, as one Triton kernel: it rotates queries and the
new keys, normalises the new latents, and stores both in their pages. In torch these are thirteen.

DeepSeek rotates neighbours: numbers 2i and 2i + 1 are a complex number, and the rotation is its factor.

Shapes: t tokens, h heads, r rank, p rope.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotated(source, target, cos, sin, mask):  # pointers to the first of each pair, and tiles
    even, odd = tl.load(source, mask=mask, other=0.0).to(tl.float32), tl.load(source + 1, mask=mask, other=0.0)
    odd = odd.to(tl.float32)
    tl.store(target, (even * cos - odd * sin).to(target.dtype.element_ty), mask=mask)
    tl.store(target + 1, (odd * cos + even * sin).to(target.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize_on_alignment=["slots"])
def store_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    query,  # [t, HEADS, NOPE + ROPE], changed in place
    compressed,  # [t, RANK + ROPE]
    query_row,
    compressed_row,
    rotation,  # [t, ROPE / 2, 2] float32: cosines and sines
    weight,  # [RANK], of the norm
    slots,  # [t], int64
    pages,  # [pages, page, RANK + ROPE]
    epsilon,
    HEADS: tl.constexpr,
    NOPE: tl.constexpr,
    RANK: tl.constexpr,
    ROPE: tl.constexpr,
    HEADS_BLOCK: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    PAIRS_BLOCK: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head, rank, pair = tl.arange(0, HEADS_BLOCK), tl.arange(0, RANK_BLOCK), tl.arange(0, PAIRS_BLOCK)
    in_pairs, in_rank = pair < ROPE // 2, rank < RANK
    cos = tl.load(rotation + row * ROPE + 2 * pair, mask=in_pairs, other=0.0)
    sin = tl.load(rotation + row * ROPE + 2 * pair + 1, mask=in_pairs, other=0.0)
    source = compressed + row * compressed_row
    target = pages + tl.load(slots + row) * (RANK + ROPE)

    latent = tl.load(source + rank, mask=in_rank, other=0.0).to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(latent * latent, 0) / RANK + epsilon)
    normal = latent * scale * tl.load(weight + rank, mask=in_rank, other=0.0).to(tl.float32)
    tl.store(target + rank, normal.to(pages.dtype.element_ty), mask=in_rank)
    _rotated(source + RANK + 2 * pair, target + RANK + 2 * pair, cos, sin, in_pairs)

    heads = query + row * query_row + head[:, None] * (NOPE + ROPE) + NOPE + 2 * pair[None, :]
    _rotated(heads, heads, cos[None, :], sin[None, :], (head < HEADS)[:, None] & in_pairs[None, :])


def rotate_and_store(
    query: Tensor, compressed: Tensor, *, rotation: Tensor, norm: Tensor, slots: Tensor, pages: Tensor, epsilon: float
) -> None:
    """Rotate `query` `[t, h, nope + p]` in place, and store the new rows.

    `compressed` `[t, r + p]`, as projected; `rotation` `[t, p / 2]` complex64; `norm` `[r]`; `slots` `[t]` int64,
    which are page * size + place in `pages` `[pages, size, r + p]`. The rows of `query` and `compressed` are
    contiguous, each in itself; all others are.
    """
    tokens, heads, width = query.shape
    with torch.cuda.device_of(query):
        store_kernel[tokens,](
            query,
            compressed,
            query.stride(0),
            compressed.stride(0),
            torch.view_as_real(rotation),
            norm,
            slots,
            pages,
            epsilon,
            **tiles(heads, width, len(norm), 2 * rotation.shape[1]),
        )


def tiles(heads: int, width: int, rank: int, rope: int) -> dict[str, int]:
    """The kernel's constants, for queries of `width`."""
    return {
        "HEADS": heads,
        "NOPE": width - rope,
        "RANK": rank,
        "ROPE": rope,
        "HEADS_BLOCK": triton.next_power_of_2(heads),
        "RANK_BLOCK": triton.next_power_of_2(rank),
        "PAIRS_BLOCK": triton.next_power_of_2(rope // 2),
        "num_warps": 4,
    }
