"""Routed and shared experts as Triton kernels. The routed ones alone are one more implementation for transformers'
switch.

A program multiplies a block of rows with some columns of one expert. Which expert and which rows depends on the step:

- PAIRS: with few tokens there is a program for each pair of a token and its expert; of an expert's pairs the first
  works for all;
- EXPERTS: up to a block of tokens there is one for each expert, which multiplies all tokens and keeps the rows that
  chose it. Reading weights is all that such a step waits for;
- SORTED: with more tokens the pairs are sorted by expert first (`triton_sort.py`), and each block has rows of one.

`triton_tiles.py` chooses among them.

The host needs nothing of the choice, so that every form can be captured in a CUDA graph. Every expert's rows are
written for themselves: a sum of them follows, in `triton_norms.py` together with the next norm.

Shapes: t tokens, k chosen experts of each, e experts, s shared ones, w width of a token, i inner width of an expert.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from app.engine.layers.triton_sort import blocks_of, sort_pairs
from app.engine.layers.triton_tiles import (
    EXPERTS,
    PAIRS,
    SORTED,
    constants_of,
    form_of,
    rows_of,
    shared_memory,
    tiles,
)


@triton.jit
def _work(  # noqa: PLR0917  # a kernel's arguments are positional
    chosen,
    order,
    owners,
    tokens,
    routed,  # programs for routed experts; those for shared ones follow
    FORM: tl.constexpr,
    TOKENS: tl.constexpr,
    K: tl.constexpr,
    K_BLOCK: tl.constexpr,
    PAIRS_BLOCK: tl.constexpr,
):
    """What a program computes: its routed expert, or its shared one from 0 (else -1); the tokens of its rows, which
    of them it multiplies, and the place of each among its token's K routed and then shared experts."""
    number, row = tl.program_id(1), tl.arange(0, TOKENS)
    expert = number.to(tl.int64)
    if number >= routed:
        blocks = tl.cdiv(tokens, TOKENS)
        shared = (number - routed) // blocks
        token = (number - routed) % blocks * TOKENS + row
        chose = token < tokens
        place = K + shared + row * 0
    else:
        shared = -1 + number * 0
        if FORM == 2:
            expert = tl.load(owners + number).to(tl.int64)
            pair = tl.load(order + number * TOKENS + row, mask=(row >= 0) & (expert >= 0), other=-1)
            chose = pair >= 0
            token = tl.where(chose, pair, 0) // K
            place = tl.where(chose, pair, 0) % K
        else:
            token, slot = row, tl.arange(0, K_BLOCK)
            there = (token < tokens)[:, None] & (slot < K)[None, :]
            choice = tl.load(chosen + token[:, None] * K + slot[None, :], mask=there, other=-1)
            if FORM == 0:
                pair = tl.arange(0, PAIRS_BLOCK)
                expert = tl.load(chosen + number)
                earlier = tl.load(chosen + pair, mask=pair < number, other=-1) == expert
                expert = tl.where(tl.sum(earlier.to(tl.int32), 0) > 0, -2, expert)  # nobody's choice
            here = choice == expert
            chose = tl.max(here.to(tl.int32), 1) > 0
            place = tl.sum(tl.where(here, slot[None, :], 0), 1)
    return expert, shared, token, chose, place


@triton.jit(do_not_specialize=["tokens", "routed"])
def gate_up_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    hidden,  # [t, WIDTH]
    weight,  # [e, 2 * INNER, WIDTH]: the gates' rows, then the others
    shared_gate,  # [SHARED * INNER, WIDTH]
    shared_up,  # [SHARED * INNER, WIDTH]
    chosen,  # [t, K], int64
    order,  # of a sorted step, int32
    owners,  # likewise
    inner,  # [t, K + SHARED, INNER]
    tokens,
    routed,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    FORM: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    SHARED: tl.constexpr,
    K: tl.constexpr,
    K_BLOCK: tl.constexpr,
    PAIRS_BLOCK: tl.constexpr,
):
    """silu(gate) * up of every pair of a token and an expert."""
    expert, shared, token, chose, place = _work(
        chosen, order, owners, tokens, routed, FORM, TOKENS, K, K_BLOCK, PAIRS_BLOCK
    )
    if tl.max(chose.to(tl.int32), 0) > 0:
        if shared >= 0:
            gates_of = shared_gate + shared.to(tl.int64) * INNER * WIDTH
            ups_of = shared_up + shared.to(tl.int64) * INNER * WIDTH
        else:
            gates_of = weight + expert * 2 * INNER * WIDTH
            ups_of = weight + (expert * 2 + 1) * INNER * WIDTH
        depth = tl.arange(0, DEPTH)
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        own = column[:, None] * WIDTH + depth[None, :]
        rows = hidden + token[:, None] * WIDTH + depth[None, :]
        gate = tl.zeros([TOKENS, COLUMNS], tl.float32)
        up = tl.zeros([TOKENS, COLUMNS], tl.float32)
        for start in range(0, WIDTH, DEPTH):
            inside = (depth < WIDTH - start)[None, :]
            row = tl.load(rows + start, mask=chose[:, None] & inside, other=0.0)
            mask = (column < INNER)[:, None] & inside
            gates = tl.load(gates_of + own + start, mask=mask, other=0.0)
            ups = tl.load(ups_of + own + start, mask=mask, other=0.0)
            gate += tl.dot(row, tl.trans(gates), input_precision="ieee")
            up += tl.dot(row, tl.trans(ups), input_precision="ieee")
        product = gate / (1.0 + tl.exp(-gate)) * up
        target = inner + (token * (K + SHARED) + place)[:, None] * INNER + column[None, :]
        tl.store(target, product.to(inner.dtype.element_ty), mask=chose[:, None] & (column < INNER)[None, :])


@triton.jit(do_not_specialize=["tokens", "routed"])
def down_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    inner,  # [t, K + SHARED, INNER]
    weight,  # [e, WIDTH, INNER]
    shared_down,  # [WIDTH, SHARED * INNER]
    chosen,  # [t, K], int64
    order,
    owners,
    shares,  # [t, K]: how much each routed expert counts
    output,  # [t, K + SHARED, WIDTH]
    tokens,
    routed,
    WIDTH: tl.constexpr,
    INNER: tl.constexpr,
    FORM: tl.constexpr,
    TOKENS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    SHARED: tl.constexpr,
    K: tl.constexpr,
    K_BLOCK: tl.constexpr,
    PAIRS_BLOCK: tl.constexpr,
):
    """What every pair adds to its token."""
    expert, shared, token, chose, place = _work(
        chosen, order, owners, tokens, routed, FORM, TOKENS, K, K_BLOCK, PAIRS_BLOCK
    )
    if tl.max(chose.to(tl.int32), 0) > 0:
        if shared >= 0:
            matrix, step = shared_down + shared.to(tl.int64) * INNER, SHARED * INNER
        else:
            matrix, step = weight + expert * WIDTH * INNER, INNER
        depth = tl.arange(0, DEPTH)
        column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
        pair = token * (K + SHARED) + place
        own = matrix + column[:, None] * step + depth[None, :]
        rows = inner + pair[:, None] * INNER + depth[None, :]
        total = tl.zeros([TOKENS, COLUMNS], tl.float32)
        for start in range(0, INNER, DEPTH):
            inside = (depth < INNER - start)[None, :]
            row = tl.load(rows + start, mask=chose[:, None] & inside, other=0.0)
            down = tl.load(own + start, mask=(column < WIDTH)[:, None] & inside, other=0.0)
            total += tl.dot(row, tl.trans(down), input_precision="ieee")
        counts = chose & (place < K)
        share = tl.load(shares + token * K + place, mask=counts, other=1.0).to(tl.float32)
        target = output + pair[:, None] * WIDTH + column[None, :]
        weighed = (total * share[:, None]).to(output.dtype.element_ty)
        tl.store(target, weighed, mask=chose[:, None] & (column < WIDTH)[None, :])


Shared = tuple[Tensor, Tensor, Tensor]
"""Gates `[s * i, w]`, ups `[s * i, w]` and downs `[w, s * i]` of s experts that multiply every token."""


def experts_parts(
    module: Any, hidden: Tensor, chosen: Tensor, shares: Tensor, shared: Shared | None = None
) -> Tensor:
    """What each expert adds to each token, `[t, k + s, w]`: `experts_forward` is their sum. Float32 for small steps,
    which round once, and the type of `hidden` for sorted ones, whose parts are many."""
    tokens, width = hidden.shape
    experts, k = module.gate_up_proj.shape[0], chosen.shape[1]
    hidden, chosen, shares = hidden.contiguous(), chosen.contiguous(), shares.contiguous()
    inner_width = module.down_proj.shape[2]
    gates, ups, downs = shared or (module.gate_up_proj, module.gate_up_proj, module.down_proj)  # not read if none
    alike = len(gates) // inner_width if shared else 0
    form, room = form_of(tokens, k, experts), shared_memory(hidden.device)
    rows = rows_of(tokens, k, experts, room)
    constants = constants_of(width, inner_width, k, form=form, rows=rows, experts=experts, shared=alike)
    gate_up, down = (constants | tiles(hidden.dtype, form=form, rows=rows, room=room, up=up) for up in (True, False))
    order, owners = sort_pairs(chosen, experts, rows) if form == SORTED else (chosen, chosen)
    routed = {PAIRS: tokens * k, EXPERTS: experts, SORTED: blocks_of(tokens * k, experts, rows)}[form]
    programs = routed + alike * triton.cdiv(tokens, rows)
    parts = hidden.dtype if form == SORTED else torch.float32
    inner = torch.empty(tokens, k + alike, inner_width, dtype=hidden.dtype, device=hidden.device)
    output = torch.empty(tokens, k + alike, width, dtype=parts, device=hidden.device)
    with torch.cuda.device_of(hidden):
        gate_up_kernel[triton.cdiv(inner_width, gate_up["COLUMNS"]), programs](
            hidden, module.gate_up_proj, gates, ups, chosen, order, owners, inner, tokens, routed, **gate_up
        )
        down_kernel[triton.cdiv(width, down["COLUMNS"]), programs](
            inner, module.down_proj, downs, chosen, order, owners, shares, output, tokens, routed, **down
        )
    return output


def experts_forward(module: Any, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
    """`hidden` `[t, w]`, `chosen` `[t, k]` int64, no expert twice for a token, and `shares` `[t, k]` to `[t, w]`, for
    a module of transformers with `gate_up_proj` `[e, 2 * i, w]` and `down_proj` `[e, w, i]`, gated by SiLU. Sums are
    float32."""
    return experts_parts(module, hidden, chosen, shares).sum(dim=1, dtype=torch.float32).to(hidden.dtype)
