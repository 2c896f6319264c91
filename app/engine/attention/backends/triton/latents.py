"""One decode step of latent attention over pages, as a Triton kernel.

One program attends with 16 heads of one row to one part of its context; `merge.py` joins the parts. All heads share
a token's latent, so it is read once for 16 of them. Block tables and lengths are read on the device.

Shapes: n rows, h heads, r rank, p rope.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from app.engine.attention.backends.triton.merge import merge
from app.engine.attention.backends.triton.splits import block, splits_for

HEADS = 16
"""Heads of one program: the least that a matrix unit multiplies."""

TOKENS = 32
"""Tokens of one tile, whatever a page holds: with DeepSeek's 576 numbers each, 36 KiB in 16 bits."""

TOKENS_IN_FLOAT32 = 16
"""Twice the bytes for each number: for checks of exactness, on cards that have the room."""


@triton.jit(
    do_not_specialize=[
        "latent_row",
        "latent_head",
        "rope_row",
        "rope_head",
        "table_row",
        "table_page",
        "splits",
        "heads",
    ],
    do_not_specialize_on_alignment=["tables", "lengths"],
)
def latents_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    query,  # what meets latents
    rope_query,  # what meets rotated keys
    pages,  # [pages, PAGE, RANK + ROPE]
    tables,  # [n, pages of a row], int64
    lengths,  # [n], int64
    parts,  # [n, h, splits, RANK] float32
    sums,  # [n, h, splits] float32
    scaling,
    latent_row,
    latent_head,
    rope_row,
    rope_head,
    table_row,
    table_page,
    splits,
    heads,
    RANK: tl.constexpr,
    ROPE: tl.constexpr,
    PAGE: tl.constexpr,
    HEADS: tl.constexpr,
    TOKENS: tl.constexpr,
    RANK_BLOCK: tl.constexpr,
    ROPE_BLOCK: tl.constexpr,
):
    split, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)
    rank, rope = tl.arange(0, RANK_BLOCK), tl.arange(0, ROPE_BLOCK)
    in_heads, in_rank, in_rope = head < heads, rank < RANK, rope < ROPE
    length = tl.load(lengths + row)
    share = tl.cdiv(tl.cdiv(length, splits), TOKENS) * TOKENS
    first = split * share
    last = tl.minimum(first + share, length)

    of_heads = query + row * latent_row + head.to(tl.int64)[:, None] * latent_head
    query_rank = tl.load(of_heads + rank[None, :], mask=in_heads[:, None] & in_rank[None, :], other=0.0)
    of_heads = rope_query + row * rope_row + head.to(tl.int64)[:, None] * rope_head
    query_rope = tl.load(of_heads + rope[None, :], mask=in_heads[:, None] & in_rope[None, :], other=0.0)

    highest = tl.full([HEADS], -1e38, tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    output = tl.zeros([HEADS, RANK_BLOCK], tl.float32)
    for start in range(first, last, TOKENS):
        token = start + tl.arange(0, TOKENS)
        there = token < last
        page = tl.load(tables + row * table_row + (token // PAGE) * table_page, mask=there, other=0)
        stored = pages + ((page.to(tl.int64) * PAGE + token % PAGE) * (RANK + ROPE))[:, None]
        latent = tl.load(stored + rank[None, :], mask=there[:, None] & in_rank[None, :], other=0.0)
        key = tl.load(stored + RANK + rope[None, :], mask=there[:, None] & in_rope[None, :], other=0.0)
        scores = tl.dot(query_rank, tl.trans(latent), input_precision="ieee")
        scores += tl.dot(query_rope, tl.trans(key), input_precision="ieee")
        scores = tl.where(there[None, :], scores * scaling, float("-inf"))
        now = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - now[:, None])
        fade = tl.exp(highest - now)
        total = total * fade + tl.sum(weights, 1)
        output = output * fade[:, None] + tl.dot(weights.to(latent.dtype), latent, input_precision="ieee")
        highest = now

    weighed = tl.where(total > 0.0, total, 1.0)  # not of NaN, which stays in the output, nor without tokens
    part = (row * heads + head) * splits + split
    tl.store(sums + part, tl.where(first < last, highest + tl.log(weighed), float("-inf")), mask=in_heads)
    tl.store(
        parts + part[:, None] * RANK + rank[None, :],
        output / weighed[:, None],
        mask=in_heads[:, None] & in_rank[None, :] & (first < last),
    )


def attend(query: Tensor, rope: Tensor, pages: Tensor, tables: Tensor, lengths: Tensor, *, scaling: float) -> Tensor:
    """One row of each sequence to `[h, n, r]`: `query` `[h, n, r]` meets latents, `rope` `[h, n, p]` rotated keys.
    Their last dimensions are contiguous.

    `pages` `[pages, page, r + p]`; `tables` `[n, pages of a row]` and `lengths` `[n]` int64, with any strides. After
    a row's length nothing is read, neither of its table nor of its pages; a length of 0 gives zeros.
    """
    heads, count, rank = query.shape
    head_blocks = triton.cdiv(heads, HEADS)
    splits = splits_for(count * head_blocks)
    parts = torch.empty(count, heads, splits, rank, dtype=torch.float32, device=query.device)
    sums = torch.empty(count, heads, splits, dtype=torch.float32, device=query.device)
    with torch.cuda.device_of(query):
        latents_kernel[splits, head_blocks, count](
            query,
            rope,
            pages,
            tables,
            lengths,
            parts,
            sums,
            scaling,
            query.stride(1),
            query.stride(0),
            rope.stride(1),
            rope.stride(0),
            tables.stride(0),
            tables.stride(1),
            splits,
            heads,
            **tiles(rank, rope.shape[2], pages.shape[1], query.dtype),
        )
    output = torch.empty(heads, count, rank, dtype=query.dtype, device=query.device)
    merge(parts, sums, output.transpose(0, 1))
    return output


def tiles(rank: int, rope: int, page: int, dtype: torch.dtype) -> dict[str, int]:
    """The kernel's constants but for the number of splits, and how it is compiled."""
    half = dtype.itemsize == 2
    return {
        "RANK": rank,
        "ROPE": rope,
        "PAGE": page,
        "HEADS": HEADS,
        "TOKENS": TOKENS if half else TOKENS_IN_FLOAT32,
        "RANK_BLOCK": block(rank),
        "ROPE_BLOCK": block(rope),
        "num_warps": 4,
        "num_stages": 2 if half else 1,
    }
