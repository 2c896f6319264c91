"""The sum of a residual stream and what a layer adds to it, with the next RMSNorm, as one Triton kernel.

Torch takes three to five kernels for it, twice in a layer, each of which reads and writes the whole stream.

Shapes: t tokens, k parts, w width of a token.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def add_norm_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    residual,  # [t, WIDTH]
    parts,  # [t, PARTS, WIDTH]
    weight,  # [WIDTH], of the norm
    total,  # [t, WIDTH]
    normal,  # [t, WIDTH]
    epsilon,
    WIDTH: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, column = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    inside = column < WIDTH
    stream = tl.load(residual + row * WIDTH + column, mask=inside, other=0.0).to(tl.float32)
    for part in tl.static_range(PARTS):
        place = parts + (row * PARTS + part) * WIDTH + column
        stream += tl.load(place, mask=inside, other=0.0).to(tl.float32)
    stored = stream.to(total.dtype.element_ty)
    tl.store(total + row * WIDTH + column, stored, mask=inside)
    stream = stored.to(tl.float32)  # the norm of what later layers see
    scale = 1.0 / tl.sqrt(tl.sum(stream * stream, 0) / WIDTH + epsilon)
    normed = stream * scale * tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    tl.store(normal + row * WIDTH + column, normed.to(normal.dtype.element_ty), mask=inside)


def add_norm(residual: Tensor, parts: Tensor, weight: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """`residual` `[t, w]` plus `parts` `[t, w]` or `[t, k, w]` of any float type, and the RMSNorm of the sum.

    Both are new tensors of the residual's type. Sums are float32 and rounded once. All are contiguous.
    """
    tokens, width = residual.shape
    total, normal = torch.empty_like(residual), torch.empty_like(residual)
    with torch.cuda.device_of(residual):
        add_norm_kernel[tokens,](
            residual,
            parts,
            weight,
            total,
            normal,
            epsilon,
            **tiles(width, 1 if parts.dim() == residual.dim() else parts.shape[1]),
        )
    return total, normal


def tiles(width: int, parts: int) -> dict[str, int]:
    """The kernel's constants."""
    return {"WIDTH": width, "PARTS": parts, "BLOCK": triton.next_power_of_2(width), "num_warps": 8}
