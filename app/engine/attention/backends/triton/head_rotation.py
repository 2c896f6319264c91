"""What attention by heads does between its joined projection and its pages, as one Triton kernel: it rotates queries
and the new keys, and stores keys and values in their pages. In torch these are fourteen.

Llama rotates halves: numbers i and i + d / 2 of a head are a complex number.

Shapes: t tokens, h query heads, k key heads, d their size.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _rotated(source, target, cos, sin, mask, HALF: tl.constexpr):  # noqa: PLR0917  # pointers to the first of each pair, and tiles
    low = tl.load(source, mask=mask, other=0.0).to(tl.float32)
    high = tl.load(source + HALF, mask=mask, other=0.0).to(tl.float32)
    tl.store(target, (low * cos - high * sin).to(target.dtype.element_ty), mask=mask)
    tl.store(target + HALF, (high * cos + low * sin).to(target.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize_on_alignment=["slots"])
def store_kernel(  # noqa: PLR0917  # a kernel's arguments are positional
    states,  # [t, h + 2k, DIM]: queries, which are changed in place, keys and values
    cos,  # [t, DIM], whose halves are equal
    sin,  # likewise
    slots,  # [t], int64
    keys,  # [pages, k, PAGE, DIM]
    values,  # likewise
    DIM: tl.constexpr,
    HALF: tl.constexpr,
    PAGE: tl.constexpr,
    GROUP: tl.constexpr,
    GROUP_BLOCK: tl.constexpr,
    DIM_BLOCK: tl.constexpr,
    HALF_BLOCK: tl.constexpr,
):
    """One program has a key head of a token, and the query heads that share it."""
    row, key_head, key_heads = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.num_programs(1)
    member, dim, pair = tl.arange(0, GROUP_BLOCK), tl.arange(0, DIM_BLOCK), tl.arange(0, HALF_BLOCK)
    in_dim, in_half = dim < DIM, pair < HALF
    cosines = tl.load(cos + row * DIM + pair, mask=in_half, other=0.0).to(tl.float32)
    sines = tl.load(sin + row * DIM + pair, mask=in_half, other=0.0).to(tl.float32)
    slot = tl.load(slots + row)
    target = ((slot // PAGE * key_heads + key_head) * PAGE + slot % PAGE) * DIM
    first = states + row * (GROUP + 2) * key_heads * DIM

    queries = first + (key_head * GROUP + member[:, None]) * DIM + pair[None, :]
    in_group = (member < GROUP)[:, None] & in_half[None, :]
    _rotated(queries, queries, cosines[None, :], sines[None, :], in_group, HALF)
    key = first + (GROUP * key_heads + key_head) * DIM
    _rotated(key + pair, keys + target + pair, cosines, sines, in_half, HALF)
    value = tl.load(key + key_heads * DIM + dim, mask=in_dim, other=0.0)
    tl.store(values + target + dim, value, mask=in_dim)


def rotate_and_store(
    states: Tensor, *, cos: Tensor, sin: Tensor, slots: Tensor, keys: Tensor, values: Tensor
) -> None:
    """Rotate the queries of `states` `[t, h + 2k, d]` in place, and store its keys and values.

    `cos` and `sin` `[t, d]`, each with equal halves; `slots` `[t]` int64, which are page * size + place in `keys` and
    `values` `[pages, k, size, d]`. All are contiguous, and `h` is a multiple of `k`.
    """
    tokens, heads, dim = states.shape
    key_heads, page = keys.shape[1:3]
    with torch.cuda.device_of(states):
        store_kernel[tokens, key_heads](
            states, cos, sin, slots, keys, values, **tiles(dim, page, heads // key_heads - 2)
        )


def tiles(dim: int, page: int, group: int) -> dict[str, int]:
    """The kernel's constants, for `group` query heads to a key head."""
    return {
        "DIM": dim,
        "HALF": dim // 2,
        "PAGE": page,
        "GROUP": group,
        "GROUP_BLOCK": triton.next_power_of_2(group),
        "DIM_BLOCK": triton.next_power_of_2(dim),
        "HALF_BLOCK": triton.next_power_of_2(dim // 2),
        "num_warps": 1,
    }
