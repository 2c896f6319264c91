"""The gate of a Llama's MLP as one Triton kernel: `silu(gate) * up` of their joined product.

Shapes: t tokens, i width of the gate.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

COLUMNS = 1024
"""Numbers of one program: a single token's row is spread over several."""


@triton.jit
def silu_kernel(
    joined,  # [t, 2 * WIDTH]: gates, then what they are multiplied with
    product,  # [t, WIDTH]
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, column = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < WIDTH
    source = joined + row * 2 * WIDTH + column
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + WIDTH, mask=inside, other=0.0).to(tl.float32)
    gated = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(product + row * WIDTH + column, gated.to(product.dtype.element_ty), mask=inside)


def silu_product(joined: Tensor) -> Tensor:
    """`[t, 2i]`, gates before what they are multiplied with, to `[t, i]` of the same type. It is computed in float32
    and rounded once. `joined` is contiguous."""
    tokens, width = joined.shape[0], joined.shape[1] // 2
    product = torch.empty(tokens, width, dtype=joined.dtype, device=joined.device)
    constants = tiles(width)
    with torch.cuda.device_of(joined):
        silu_kernel[tokens, triton.cdiv(width, constants["BLOCK"])](joined, product, **constants)
    return product


def tiles(width: int) -> dict[str, int]:
    """The kernel's constants."""
    return {"WIDTH": width, "BLOCK": min(COLUMNS, triton.next_power_of_2(width)), "num_warps": 4}
