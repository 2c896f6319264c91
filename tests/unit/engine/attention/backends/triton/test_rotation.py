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
def test_rows_are_rotated_normalised_and_stored(heads: int, nope: int, rank: int, rope: int) -> None:
    random = torch.Generator().manual_seed(0)

    def numbers(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random).to(DEVICE)

    tokens = 5
    query, compressed = numbers(tokens, heads, nope + rope), numbers(tokens, rank + rope) * 3
    pages, weight, angles = numbers(4, PAGE, rank + rope), numbers(rank), numbers(tokens, rope // 2) * 9
    rotation = torch.polar(torch.ones_like(angles), angles)
    slots = torch.tensor([0, 31, 32, 127, 64], device=DEVICE)
    turned, key = apply_rotary_emb(
        query[None, :, :, nope:].transpose(1, 2), compressed[None, None, :, rank:], rotation[None]
    )
    latent = F.rms_norm(compressed[:, :rank], (rank,), weight, 1e-6)
    expected = pages.clone()
    expected.view(-1, rank + rope)[slots] = torch.cat((latent, key[0, 0]), dim=-1)
    expected_query = torch.cat((query[..., :nope], turned[0].transpose(0, 1)), dim=-1)

    rotate_and_store(query, compressed, rotation=rotation, norm=weight, slots=slots, pages=pages, epsilon=1e-6)

    torch.testing.assert_close(pages, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(query, expected_query, atol=1e-5, rtol=1e-5)
