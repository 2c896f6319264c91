"""The kernel stores and rotates what a Llama's modules do: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from app.engine.attention.backends.triton.head_rotation import rotate_and_store
from tests.support.kernels import DEVICE, PAGE, random

TOKENS = 5
SLOTS = [0, 31, 32, 127, 64]


def of_tokens(heads: int, dim: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows as projected, and their cosines and sines as the rotary embedding gives them."""
    angles = (random(TOKENS, dim // 2, seed=1) * 9).repeat(1, 2)
    return random(TOKENS, heads, dim).to(dtype), angles.cos().to(dtype), angles.sin().to(dtype)


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 4e-3)], ids=["32 bits", "16 bits"]
)
@pytest.mark.parametrize(
    ("key_heads", "group", "dim"),
    [(3, 3, 64), (2, 4, 128), (1, 1, 16), (2, 5, 24), (4, 1, 32)],
    ids=["smollm", "wide", "one head", "odd widths", "a key for each head"],
)
def test_rows_are_rotated_and_stored(
    key_heads: int, group: int, dim: int, dtype: torch.dtype, tolerance: float
) -> None:
    heads = key_heads * group
    states, cos, sin = of_tokens(heads + 2 * key_heads, dim, dtype)
    keys = torch.full((4, key_heads, PAGE, dim), float("nan"), dtype=dtype, device=DEVICE)
    values = keys.clone()
    by_head = states.float().transpose(0, 1)[None]
    query, key = apply_rotary_pos_emb(
        by_head[:, :heads], by_head[:, heads:-key_heads], cos.float()[None], sin.float()[None]
    )
    value = states[:, -key_heads:].clone()

    slots = torch.tensor(SLOTS, device=DEVICE)
    rotate_and_store(states, cos=cos, sin=sin, slots=slots, keys=keys, values=values)

    close: dict[str, Any] = {"atol": tolerance, "rtol": tolerance}
    pages, places = slots // PAGE, slots % PAGE
    torch.testing.assert_close(states[:, :heads].float(), query[0].transpose(0, 1), **close)
    torch.testing.assert_close(keys[pages, :, places].float(), key[0].transpose(0, 1), **close)
    assert torch.equal(values[pages, :, places], value)
    for stored in (keys, values):
        assert int(stored.isfinite().sum()) == TOKENS * key_heads * dim, "nothing else was written"


def test_a_broken_token_disturbs_no_other() -> None:
    states, cos, sin = of_tokens(2 + 2, 16, torch.float32)
    pages = torch.zeros(4, 1, PAGE, 16, device=DEVICE)
    slots = torch.tensor(SLOTS, device=DEVICE)

    def stored(rows: torch.Tensor) -> torch.Tensor:
        keys, values = pages.clone(), pages.clone()
        rotate_and_store(rows, cos=cos, sin=sin, slots=slots, keys=keys, values=values)
        return torch.cat((rows.flatten(1), *(each.view(-1, 16)[slots] for each in (keys, values))), dim=1)

    broken = states.clone()
    broken[1] = float("nan")
    clean, others = stored(states), [0, 2, 3, 4]
    assert torch.equal(stored(broken)[others], clean[others])
