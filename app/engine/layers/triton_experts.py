"""Routed experts of a small step as two Triton kernels, for transformers' switch between implementations.

Every expert that was chosen multiplies all tokens of a block and keeps the rows that chose it. So nothing is sorted,
the host needs nothing of the choice, and the step can be captured in a CUDA graph. A weight is read once for 64
tokens, and with few tokens reading weights is all that a step waits for. With many tokens the idle rows cost more
than sorting: the start-up measures (`experts.py`).

Shapes: t tokens, k chosen experts of each, e experts, w width of a token, i inner width of an expert.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

MOST_TOKENS = 64
"""Tokens of one block."""

COLUMNS = 32
"""Columns of a weight that one program computes: 6 experts of 1,408 make 264 programs for one token."""

DEPTH = 64
"""Numbers of a row that are multiplied at a time."""


@triton.jit
def _choosing(chosen, first, tokens, expert, TOKENS: tl.constexpr, K: tl.constexpr, K_BLOCK: tl.constexpr):  # noqa: PLR0917  # a kernel's arguments are positional
    """For each token of the block: whether it chose the expert, and its place among all pairs `[t * k]`."""
    token, slot = first + tl.arange(0, TOKENS), tl.arange(0, K_BLOCK)
    there = (token < tokens)[:, None] & (slot < K)[None, :]
    choice = tl.load(chosen + token[:, None] * K + slot[None, :], mask=there, other=-1)
    here = choice == expert
    return tl.max(here.to(tl.int32), 1) > 0, token * K + tl.sum(tl.where(here, slot[None, :], 0), 1)


@triton.jit(do_not_specialize=["tokens"])
def gate_up_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    hidden,  # [t, WIDTH]
    weight,  # [e, 2 * INNER, WIDTH]: the gates' rows, then the others
    chosen,  # [t, K], int64
    inner,  # [t * K, INNER]
    tokens,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    K: tl.constexpr,
    K_BLOCK: tl.constexpr,
):
    """silu(gate) * up of every pair of a token and an expert."""
    expert, first = tl.program_id(1).to(tl.int64), tl.program_id(2) * TOKENS
    chose, pair = _choosing(chosen, first, tokens, expert, TOKENS, K, K_BLOCK)
    if tl.max(chose.to(tl.int32), 0) > 0:
        token, depth = first + tl.arange(0, TOKENS), tl.arange(0, DEPTH)
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        own = weight + (expert * 2 * INNER + column[:, None]) * WIDTH + depth[None, :]
        rows = hidden + token[:, None] * WIDTH + depth[None, :]
        gate = tl.zeros([TOKENS, COLUMNS], tl.float32)
        up = tl.zeros([TOKENS, COLUMNS], tl.float32)
        for start in range(0, WIDTH, DEPTH):
            inside = (depth < WIDTH - start)[None, :]
            row = tl.load(rows + start, mask=chose[:, None] & inside, other=0.0)
            mask = (column < INNER)[:, None] & inside
            gates = tl.load(own + start, mask=mask, other=0.0)
            ups = tl.load(own + INNER * WIDTH + start, mask=mask, other=0.0)
            gate += tl.dot(row, tl.trans(gates), input_precision="ieee")
            up += tl.dot(row, tl.trans(ups), input_precision="ieee")
        product = gate / (1.0 + tl.exp(-gate)) * up
        target = inner + pair[:, None] * INNER + column[None, :]
        tl.store(target, product.to(inner.dtype.element_ty), mask=chose[:, None] & (column < INNER)[None, :])


@triton.jit(do_not_specialize=["tokens"])
def down_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    inner,  # [t * K, INNER]
    weight,  # [e, WIDTH, INNER]
    chosen,  # [t, K], int64
    shares,  # [t, K]: how much each expert counts
    output,  # [t * K, WIDTH] float32
    tokens,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    K: tl.constexpr,
    K_BLOCK: tl.constexpr,
):
    """What every pair adds to its token."""
    expert, first = tl.program_id(1).to(tl.int64), tl.program_id(2) * TOKENS
    chose, pair = _choosing(chosen, first, tokens, expert, TOKENS, K, K_BLOCK)
    if tl.max(chose.to(tl.int32), 0) > 0:
        depth = tl.arange(0, DEPTH)
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        own = weight + (expert * WIDTH + column[:, None]) * INNER + depth[None, :]
        rows = inner + pair[:, None] * INNER + depth[None, :]
        total = tl.zeros([TOKENS, COLUMNS], tl.float32)
        for start in range(0, INNER, DEPTH):
            inside = (depth < INNER - start)[None, :]
            row = tl.load(rows + start, mask=chose[:, None] & inside, other=0.0)
            down = tl.load(own + start, mask=(column < WIDTH)[:, None] & inside, other=0.0)
            total += tl.dot(row, tl.trans(down), input_precision="ieee")
        share = tl.load(shares + pair, mask=chose, other=0.0).to(tl.float32)
        target = output + pair[:, None] * WIDTH + column[None, :]
        tl.store(target, total * share[:, None], mask=chose[:, None] & (column < WIDTH)[None, :])


def experts_forward(module: Any, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
    """`hidden` `[t, w]`, `chosen` `[t, k]` int64 and `shares` `[t, k]` to `[t, w]`, for a module of transformers with
    `gate_up_proj` `[e, 2 * i, w]` and `down_proj` `[e, w, i]`, gated by SiLU. Sums are float32."""
    tokens, width = hidden.shape
    experts, k = module.gate_up_proj.shape[0], chosen.shape[1]
    hidden, chosen, shares = hidden.contiguous(), chosen.contiguous(), shares.contiguous()
    inner_width = module.down_proj.shape[2]
    constants = tiles(width, inner_width, tokens, k, hidden.dtype)
    blocks = triton.cdiv(tokens, constants["TOKENS"])
    inner = torch.empty(tokens * k, inner_width, dtype=hidden.dtype, device=hidden.device)
    output = torch.empty(tokens, k, width, dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        gate_up_kernel[triton.cdiv(inner_width, COLUMNS), experts, blocks](
            hidden, module.gate_up_proj, chosen, inner, tokens, **constants
        )
        down_kernel[triton.cdiv(width, COLUMNS), experts, blocks](
            inner, module.down_proj, chosen, shares, output, tokens, **constants
        )
    return output.sum(dim=1, dtype=torch.float32).to(hidden.dtype)


def tiles(width: int, inner: int, tokens: int, k: int, dtype: torch.dtype) -> dict[str, int]:
    """The kernels' constants, and how they are compiled."""
    half = dtype.itemsize == 2
    return {
        "WIDTH": width,
        "INNER": inner,
        "TOKENS": min(MOST_TOKENS, max(16, triton.next_power_of_2(tokens))),
        "COLUMNS": COLUMNS,
        "DEPTH": DEPTH if half else DEPTH // 2,
        "K": k,
        "K_BLOCK": triton.next_power_of_2(k),
        "num_warps": 4,
        "num_stages": 4 if half else 2,
    }
