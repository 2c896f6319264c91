"""One decode step of attention with keys and values for each head over pages, as a Triton kernel.

One program attends with the query heads that share a key head to one part of a row's context; `merge.py` joins the
parts. Block tables and lengths are read on the device.

Shapes: n rows, h query heads, k key heads, d their size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from app.engine.attention.backends.triton.merge import merge
from app.engine.attention.backends.triton.splits import block, splits_for

TOKENS = 64
"""Tokens of one tile, whatever a page holds: keys and values of 128 numbers take 32 KiB in 16 bits."""

TOKENS_IN_FLOAT32 = 16


@triton.jit(
    do_not_specialize=["query_row", "query_head", "table_row", "table_page", "splits"],
    do_not_specialize_on_alignment=["tables", "lengths"],
)
def heads_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    query,
    keys,  # [pages, k, PAGE, DIM]
    values,  # likewise
    tables,  # [n, pages of a row], int64
    lengths,  # [n], int64
    parts,  # [n, h, splits, DIM] float32
    sums,  # [n, h, splits] float32
    scaling,
    query_row,
    query_head,
    table_row,
    table_page,
    splits,
    DIM: tl.constexpr,
    PAGE: tl.constexpr,
    GROUP: tl.constexpr,
    TOKENS: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
):
    split, key_head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    key_heads = tl.num_programs(1)
    member, dim = tl.arange(0, GROUP_BLOCK), tl.arange(0, DIM_BLOCK)
    head = key_head * GROUP + member
    in_group, in_dim = member < GROUP, dim < DIM
    length = tl.load(lengths + row)
    share = tl.cdiv(tl.cdiv(length, splits), TOKENS) * TOKENS
    first = split * share
    last = tl.minimum(first + share, length)

    head_query = query + row * query_row + head.to(tl.int64)[:, None] * query_head
    own = tl.load(head_query + dim[None, :], mask=in_group[:, None] & in_dim[None, :], other=0.0)

    highest = tl.full([GROUP_BLOCK], -1e38, tl.float32)
    total = tl.zeros([GROUP_BLOCK], tl.float32)
    output = tl.zeros([GROUP_BLOCK, DIM_BLOCK], tl.float32)
    for start in range(first, last, TOKENS):
        token = start + tl.arange(0, TOKENS)
        there = token < last
        page = tl.load(tables + row * table_row + (token // PAGE) * table_page, mask=there, other=0)
        stored = (((page.to(tl.int64) * key_heads + key_head) * PAGE + token % PAGE) * DIM)[:, None] + dim[None, :]
        mask = there[:, None] & in_dim[None, :]
        key = tl.load(keys + stored, mask=mask, other=0.0)
        scores = tl.dot(own, tl.trans(key), input_precision="ieee") * scaling
        scores = tl.where(there[None, :], scores, float("-inf"))
        now = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp(scores - now[:, None])
        fade = tl.exp(highest - now)
        total = total * fade + tl.sum(weights, 1)
        value = tl.load(values + stored, mask=mask, other=0.0)
        output = output * fade[:, None] + tl.dot(weights.to(value.dtype), value, input_precision="ieee")
        highest = now

    weighed = tl.where(total > 0.0, total, 1.0)  # not of NaN, which stays in the output, nor without tokens
    part = (row * key_heads * GROUP + head) * splits + split
    tl.store(sums + part, tl.where(first < last, highest + tl.log(weighed), float("-inf")), mask=in_group)
    tl.store(
        parts + part[:, None] * DIM + dim[None, :],
        output / weighed[:, None],
        mask=in_group[:, None] & in_dim[None, :] & (first < last),
    )


def attend(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, lengths: Tensor, *, scaling: float) -> Tensor:
    """One row of each sequence, `[h, n, d]` with contiguous rows to `[n, h, d]`.

    `keys` and `values` `[pages, k, page, d]`; `tables` `[n, pages of a row]` and `lengths` `[n]` int64, with any
    strides. After a row's length nothing is read, neither of its table nor of its pages; a length of 0 gives zeros.
    """
    heads, count, dim = query.shape
    key_heads = keys.shape[1]
    splits = splits_for(count * key_heads)
    parts = torch.empty(count, heads, splits, dim, dtype=torch.float32, device=query.device)
    sums = torch.empty(count, heads, splits, dtype=torch.float32, device=query.device)
    with torch.cuda.device_of(query):
        heads_kernel[splits, key_heads, count](
            query,
            keys,
            values,
            tables,
            lengths,
            parts,
            sums,
            scaling,
            query.stride(1),
            query.stride(0),
            tables.stride(0),
            tables.stride(1),
            splits,
            **tiles(dim, keys.shape[2], heads // key_heads, query.dtype),
        )
    return merge(parts, sums, torch.empty(count, heads, dim, dtype=query.dtype, device=query.device))


def tiles(dim: int, page: int, group: int, dtype: torch.dtype) -> dict[str, int]:
    """The kernel's constants but for the number of splits, and how it is compiled."""
    half = dtype.itemsize == 2
    return {
        "DIM": dim,
        "PAGE": page,
        "GROUP": group,
        "TOKENS": TOKENS if half else TOKENS_IN_FLOAT32,
        "DIM_BLOCK": block(dim),
        "GROUP_BLOCK": block(group),
        "num_warps": 4,
        "num_stages": 2 if half else 1,
    }
