"""DeepSeek-V2's router as two Triton kernels, where torch takes nine.

The first multiplies a block of tokens with a part of the width, so that a single token's product is read by many
programs; the second adds the parts and takes the k most likely experts.

Shapes: t tokens, w width of a token, e experts, k chosen.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

TOKENS = 16
"""Tokens of one program: the least that a matrix unit multiplies."""

DEPTH = 128
"""Numbers of a token that are multiplied at a time."""

PROGRAMS = 64
"""About as many as are wanted: parts of the width are for batches with fewer blocks."""


@triton.jit(do_not_specialize=["tokens"])
def scores_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    hidden,  # [t, WIDTH]
    weight,  # [EXPERTS, WIDTH]
    scores,  # [t, PARTS, EXPERTS] float32
    tokens,
    WIDTH: tl.constexpr,
    EXPERTS: tl.constexpr,
    EXPERTS_BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
    TOKENS: tl.constexpr,
    DEPTH: tl.constexpr,
):
    token, part = tl.program_id(0) * TOKENS + tl.arange(0, TOKENS), tl.program_id(1)
    expert, depth = tl.arange(0, EXPERTS_BLOCK), tl.arange(0, DEPTH)
    there, known = (token < tokens)[:, None], (expert < EXPERTS)[:, None]
    total = tl.zeros([TOKENS, EXPERTS_BLOCK], tl.float32)
    for block in range(part, tl.cdiv(WIDTH, DEPTH), PARTS):
        column = block * DEPTH + depth
        inside = (column < WIDTH)[None, :]
        rows = tl.load(hidden + token[:, None] * WIDTH + column[None, :], mask=there & inside, other=0.0)
        own = tl.load(weight + expert[:, None] * WIDTH + column[None, :], mask=known & inside, other=0.0)
        total += tl.dot(rows, tl.trans(own), input_precision="ieee")
    target = scores + (token[:, None] * PARTS + part) * EXPERTS + expert[None, :]
    tl.store(target, total, mask=there & (expert < EXPERTS)[None, :])


@triton.jit
def choice_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    scores,  # [t, PARTS, EXPERTS] float32
    chosen,  # [t, K] int64
    shares,  # [t, K] float32
    factor,
    EXPERTS: tl.constexpr,
    EXPERTS_BLOCK: tl.constexpr,
    PARTS: tl.constexpr,
    K: tl.constexpr,
):
    row = tl.program_id(0)
    expert, part = tl.arange(0, EXPERTS_BLOCK), tl.arange(0, PARTS)
    place = scores + (row * PARTS + part[:, None]) * EXPERTS + expert[None, :]
    logits = tl.sum(tl.load(place, mask=(expert < EXPERTS)[None, :], other=0.0), 0)
    logits = tl.where(expert < EXPERTS, logits, float("-inf"))
    likely = tl.exp(logits - tl.max(logits, 0))
    likely = likely / tl.sum(likely, 0)
    # A broken token must not choose an expert twice: the experts' kernels find a pair by token and expert. Its own
    # numbers stay broken, which its request ends for.
    likely = tl.where(likely >= 0.0, likely, 0.0)
    likely = tl.where(expert < EXPERTS, likely, -1.0)
    for slot in tl.static_range(K):
        best = tl.argmax(likely, 0)
        tl.store(chosen + row * K + slot, best.to(tl.int64))
        tl.store(shares + row * K + slot, tl.max(likely, 0) * factor)
        likely = tl.where(expert == best, -1.0, likely)


def route(hidden: Tensor, weight: Tensor, k: int, factor: float) -> tuple[Tensor, Tensor]:
    """The `k` most likely experts of each token of `hidden` `[t, w]`, int64 `[t, k]`, and their probabilities times
    `factor`, float32 `[t, k]`. `weight` is `[e, w]`; both are contiguous and of one type. Sums are float32."""
    (tokens, width), experts = hidden.shape, len(weight)
    blocks = triton.cdiv(tokens, TOKENS)
    parts = parts_for(blocks, width)
    scores = torch.empty(tokens, parts, experts, dtype=torch.float32, device=hidden.device)
    chosen = torch.empty(tokens, k, dtype=torch.long, device=hidden.device)
    shares = torch.empty(tokens, k, dtype=torch.float32, device=hidden.device)
    with torch.cuda.device_of(hidden):
        scores_kernel[blocks, parts](hidden, weight, scores, tokens, **score_tiles(width, experts, parts))
        choice_kernel[tokens,](scores, chosen, shares, factor, **choice_tiles(experts, parts, k))
    return chosen, shares


def parts_for(blocks: int, width: int) -> int:
    """A power of two, by the number of blocks of tokens alone."""
    wanted = max(1, min(PROGRAMS // blocks, triton.cdiv(width, DEPTH)))
    return 1 << (int(wanted).bit_length() - 1)


def score_tiles(width: int, experts: int, parts: int) -> dict[str, int]:
    """The first kernel's constants."""
    return {
        "WIDTH": width,
        "EXPERTS": experts,
        "EXPERTS_BLOCK": max(16, triton.next_power_of_2(experts)),
        "PARTS": parts,
        "TOKENS": TOKENS,
        "DEPTH": DEPTH,
        "num_warps": 4,
    }


def choice_tiles(experts: int, parts: int, k: int) -> dict[str, int]:
    """The second kernel's constants."""
    return {
        "EXPERTS": experts,
        "EXPERTS_BLOCK": max(16, triton.next_power_of_2(experts)),
        "PARTS": parts,
        "K": k,
        "num_warps": 1,
    }
