"""The CPU's other way to attend in bfloat16 gives what the fused kernel gives."""

import torch
import torch.nn.functional as F

from app.engine.attention.slots import _by_products


def test_plain_products_equal_the_fused_kernel() -> None:
    generator = torch.Generator().manual_seed(5)
    rows = torch.randn(3, 2, 4, 16, generator=generator)
    buffer = torch.randn(2, 3, 2, 64, 16, generator=generator)
    keys, values = buffer[:, :, :, :50].bfloat16()
    mask = torch.zeros(3, 1, 1, 50).masked_fill_(
        torch.arange(50) > torch.tensor([9, 30, 49])[:, None, None, None], -torch.inf
    )
    exact = F.scaled_dot_product_attention(rows, keys.float(), values.float(), attn_mask=mask, scale=0.3)
    ours = _by_products(rows.bfloat16(), keys, values, mask.bfloat16(), 0.3)
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), exact, atol=0.02, rtol=0.02)
