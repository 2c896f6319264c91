"""The kernel stores and rotates what torch's operations do: interpreted on a CPU, compiled on a GPU."""

import pytest
import torch
import torch.nn.functional as F
from transformers.models.deepseek_v2.modeling_deepseek_v2 import apply_rotary_emb

from app.engine.attention.backends.triton.rotation import rotate_and_store
from tests.support.kernels import DEVICE, PAGE


@pytest.mark.parametrize(
    ("heads", "nope", "rank", "rope"),
    [(16, 128, 512, 64), (4, 32, 64, 16), (3, 8, 48, 8)],
    ids=["lite", "small", "odd widths"],
)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 2e-3)], ids=["32 bits", "16 bits"]
)
def test_rows_are_rotated_normalised_and_stored(
    heads: int, nope: int, rank: int, rope: int, *, dtype: torch.dtype, tolerance: float
) -> None:
    """The expected numbers are those of float32, of the same inputs."""
    random = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(DEVICE, dtype).float()

    tokens = 5
    query, compressed = numbers(tokens, heads, nope + rope), numbers(tokens, rank + rope) * 3
    pages, weight, angles = numbers(4, PAGE, rank + rope), numbers(rank), numbers(tokens, rope // 2) * 9
    compressed, held = compressed.to(dtype).float(), pages.to(dtype)
    rotation = torch.polar(torch.ones_like(angles), angles)
    slots = torch.tensor([0, 31, 32, 127, 64], device=DEVICE)
    turned, key = apply_rotary_emb(
        query[None, :, :, nope:].transpose(1, 2), compressed[None, None, :, rank:], rotation[None]
    )
    latent = F.rms_norm(compressed[:, :rank], (rank,), weight, 1e-6)
    expected = pages.clone()
    expected.view(-1, rank + rope)[slots] = torch.cat((latent, key[0, 0]), dim=-1)
    expected_query = torch.cat((query[..., :nope], turned[0].transpose(0, 1)), dim=-1)

    turned_query = query.to(dtype)
    rotate_and_store(
        turned_query,
        compressed.to(dtype),
        rotation=rotation,
        norm=weight.to(dtype),
        slots=slots,
        pages=held,
        epsilon=1e-6,
    )

    torch.testing.assert_close(held.float(), expected, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(turned_query.float(), expected_query, atol=tolerance, rtol=tolerance)
