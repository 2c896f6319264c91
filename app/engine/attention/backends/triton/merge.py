"""Merges the parts of split contexts by the logarithm of their sums, as `partial.py` beside this folder does."""

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDTH_BLOCK = 64
"""Numbers of a row that one program merges: with 64 parts it holds 4,096 float32 numbers."""


@triton.jit(do_not_specialize=["width", "out_row", "out_head"])
def merge_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    parts,  # [n, h, SPLITS, width] float32
    sums,  # [n, h, SPLITS] float32
    out,
    width,
    out_row,
    out_head,
    SPLITS: tl.constexpr,
    WIDTH_BLOCK: tl.constexpr,
):
    row, head = tl.program_id(0), tl.program_id(1)
    columns = tl.program_id(2) * WIDTH_BLOCK + tl.arange(0, WIDTH_BLOCK)
    pair = row * tl.num_programs(1) + head
    split = tl.arange(0, SPLITS)
    sum_ = tl.load(sums + pair * SPLITS + split)
    seen = sum_ != float("-inf")  # a part that saw no token wrote no numbers
    largest = tl.max(tl.where(seen, sum_, -1e38), 0)
    weight = tl.where(seen, tl.exp(sum_ - largest), 0.0)
    total = tl.sum(weight, 0)
    place = (pair * SPLITS + split[:, None]).to(tl.int64) * width + columns[None, :]
    part = tl.load(parts + place, mask=seen[:, None] & (columns < width)[None, :], other=0.0)
    merged = tl.sum(part * weight[:, None], 0) / tl.where(total > 0.0, total, 1.0)  # a row without tokens gets zeros
    target = out + row.to(tl.int64) * out_row + head.to(tl.int64) * out_head + columns
    tl.store(target, merged.to(out.dtype.element_ty), mask=columns < width)


def merge(parts: Tensor, sums: Tensor, out: Tensor) -> Tensor:
    """`parts` `[n, h, splits, width]` and `sums` `[n, h, splits]`, float32, into `out`, a view `[n, h, width]` whose
    last dimension is contiguous. Rows that saw no token become zeros."""
    count, heads, splits, width = parts.shape
    grid = (count, heads, triton.cdiv(width, WIDTH_BLOCK))
    with torch.cuda.device_of(parts):
        merge_kernel[grid](
            parts, sums, out, width, out.stride(0), out.stride(1), SPLITS=splits, WIDTH_BLOCK=WIDTH_BLOCK
        )
    return out
