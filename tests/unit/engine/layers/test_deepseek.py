"""Layers in few operations give the modules' numbers: interpreted on a CPU, compiled on a GPU."""

from typing import Any

import pytest
import torch

from app.engine.attention.backends.on_gpu import TritonLatents
from app.engine.attention.backends.triton import latents, rotation
from app.engine.attention.mla import absorb
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import LatentShape, kv_shape
from app.engine.layers import triton_tiles
from app.engine.layers.deepseek import FewOperations, obstacle
from app.engine.layers.experts import OURS, ExpertsPolicy
from tests.support.kernels import DEVICE
from tests.support.paging import logits_of
from tests.support.tiny import VOCABULARY, tiny_deepseek

PARTS = (10, 22, 23, 24, 42, 65)
"""Where a text is cut: two prompt chunks, two decode steps, a chunk whose tokens are sorted by expert, and one whose
experts transformers computes."""


def decoder_of(model: Any) -> Decoder:
    """With Triton's attention, and with our kernels for the experts of steps of at most 20 tokens."""
    absorb(model)
    decoder = Decoder(model.to(DEVICE), ExpertsPolicy(model.config, {1: {OURS: 1.0}, 400: {"eager": 1.0}}))
    shape = kv_shape(model.config.to_dict())
    assert isinstance(shape, LatentShape)
    decoder.backend = TritonLatents(shape, PAGE_SIZE, torch.float32, latents, rotation)
    return decoder


@pytest.mark.parametrize("changes", [{"yarn": True}, {"n_shared_experts": 1, "n_routed_experts": 9}], ids=str)
def test_chunks_and_decode_steps_equal_the_stock_model(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_tiles, "MOST_TOKENS", 16)  # the interpreter takes milliseconds for each token
    changes |= {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    tokens = torch.randint(3, VOCABULARY, (1, PARTS[-1]), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = tiny_deepseek(**changes)(input_ids=tokens).logits
        decoder = decoder_of(tiny_deepseek(**changes))
        (segment,) = decoder.segments
        weights = decoder.weight_bytes
        segment.run = FewOperations(segment.layers, decoder.experts)
        got = logits_of(decoder, tokens, PARTS)
    torch.testing.assert_close(got.cpu(), expected, atol=1e-4, rtol=1e-4)
    assert decoder.weight_bytes == weights, "joined projections are the modules' own weights"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"q_lora_rank": 48}, "queries"),
        ({"attention_bias": True}, "biases"),
        ({"topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2}, "groups"),
    ],
)
def test_what_it_does_not_compute(changes: dict[str, Any], reason: str) -> None:
    model = tiny_deepseek(**changes)
    assert "own layer" not in obstacle(model.model.layers)
    absorb(model)
    said = obstacle(model.model.layers)
    assert reason in said
    assert bool(said) == bool(reason)
