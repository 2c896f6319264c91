"""Absorbed latent attention gives the stock module's numbers."""

import math
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.cache import KvCache
from app.engine.attention.mla import AbsorbedAttention, absorb, absorbed_is_cheaper
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.sequence import TokenSequence
from app.engine.kv.shape import LatentShape
from tests.support.paging import POOL, logits, scattered, step
from tests.support.tiny import VOCABULARY, YARN, YARN_SOFTMAX_FACTOR, deepseek_config, tiny_deepseek

LITE: dict[str, Any] = {
    "hidden_size": 2048,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
    "rope_parameters": dict(YARN),
    "max_position_embeddings": 163_840,
}
"""DeepSeek-Coder-V2-Lite's attention."""

SMALL: dict[str, Any] = {"hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4, "kv_lora_rank": 64}

PARTS = (20, 30, 31, 32, 50)
"""Where a text of 50 tokens is cut: a prefill, a chunk behind a cache, two decode steps, a chunk."""


def ids(rows: int, length: int) -> Tensor:
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


def stock_logits(model: PreTrainedModel, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        output: Tensor = model(input_ids=tokens).logits
    return output


@pytest.mark.parametrize("changes", [{}, {"yarn": True}, {"q_lora_rank": 48, "attention_bias": True}])
def test_prefill_chunks_and_decode_equal_the_stock_model(changes: dict[str, Any]) -> None:
    tokens = ids(3, 50)
    expected = stock_logits(tiny_deepseek(**changes), tokens)
    torch.testing.assert_close(logits(tiny_deepseek(**changes), tokens, PARTS), expected, atol=5e-5, rtol=1e-4)


def lite_layer(kind: type[DeepseekV2Attention] = AbsorbedAttention, **changes: Any) -> Any:
    """One attention layer; at Lite's own size if nothing is changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer = kind(deepseek_config(**(LITE | changes)), layer_idx=0).eval().requires_grad_(requires_grad=False)
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return layer


def over_pages(layer: Any, rows: int, length: int) -> tuple[KvCache, list[TokenSequence]]:
    shape = LatentShape(layer.kv_lora_rank, layer.qk_rope_head_dim)
    backend = LatentsBackend(shape, PAGE_SIZE, layer.kv_b_proj.weight.dtype)
    cache = KvCache(backend, [torch.device("cpu")], POOL, PAGE_SIZE)
    return cache, scattered([[1] * length] * rows)


def stock_and_absorbed(dtype: torch.dtype, queries: int) -> tuple[Tensor, Tensor]:
    """One layer of Lite's size over 300 cached tokens: the outputs of the stock module and of ours."""
    config = deepseek_config(**LITE)
    length = 300 + queries
    hidden = torch.randn(2, length, 2048, generator=torch.Generator().manual_seed(5)).to(dtype)
    rotation = DeepseekV2RotaryEmbedding(config)(hidden, torch.arange(length)[None])
    stock, ours = (lite_layer(kind).to(dtype) for kind in (DeepseekV2Attention, AbsorbedAttention))
    stock.config._attn_implementation = "sdpa"
    kept = DynamicCache(config=config)
    mask = torch.ones(queries, length, dtype=torch.bool).tril(300)[None, None].expand(2, -1, -1, -1)
    cache, sequences = over_pages(ours, 2, length)
    with torch.no_grad():
        stock(hidden[:, :300], None, kept, rotation[:, :300])
        want = stock(hidden[:, 300:], mask, kept, rotation[:, 300:])[0]
        for start, end in ((0, 300), (300, length)):
            cache.begin(step(sequences, start, end))
            rows = hidden[:, start:end].flatten(0, 1).unsqueeze(0)
            got = ours(rows, position_embeddings=rotation[:, start:end].repeat(1, 2, 1), kv_cache=cache)[0]
    return want, got.view_as(want)


@pytest.mark.parametrize("queries", [1, 8, 290])
def test_lites_own_dimensions_equal_the_stock_layer(queries: int) -> None:
    assert absorbed_is_cheaper(queries, 300 + queries, rank=512, nope=128, value=128) == (queries < 290)
    want, got = stock_and_absorbed(torch.float32, queries)
    torch.testing.assert_close(got, want, atol=2e-6, rtol=1e-4)


def test_bfloat16_is_as_close_to_float32_as_the_stock_layer() -> None:
    exact, _ = stock_and_absorbed(torch.float32, 1)
    stock, ours = (out.float() for out in stock_and_absorbed(torch.bfloat16, 1))
    assert (ours - exact).norm() < 1.5 * (stock - exact).norm()
    assert (ours - exact).norm() < 0.03 * exact.norm()


def by_hand(layer: Any, query: Tensor, latent: Tensor, rope: Tensor, factor: float) -> Tensor:
    """The paper's formula, head by head, in float64: nothing of the stock module but its weights."""
    weight = layer.kv_b_proj.weight.double().view(layer.num_heads, -1, layer.kv_lora_rank)
    heads = []
    for head in range(layer.num_heads):
        keys_values = latent[:, 0].double() @ weight[head].T
        keys = torch.cat((keys_values[..., : layer.qk_nope_head_dim], rope[:, 0].double()), dim=-1)
        scores = query[:, head].double() @ keys.mT / math.sqrt(layer.qk_head_dim) * factor
        hidden = ~torch.ones(scores.shape[-2:], dtype=torch.bool).tril(scores.shape[-1] - scores.shape[-2])
        scores = scores.masked_fill(hidden, -math.inf)
        heads.append(scores.softmax(-1) @ keys_values[..., layer.qk_nope_head_dim :])
    return torch.cat(heads, dim=-1)


@pytest.mark.parametrize("queries", [1, 40])  # absorbed, expanded
def test_yarns_softmax_factor_is_in_the_scores(queries: int) -> None:
    assert pytest.approx(1.5896, abs=1e-4) == YARN_SOFTMAX_FACTOR
    layer = lite_layer(**SMALL)
    cache, sequences = over_pages(layer, 2, 40)
    generator = torch.Generator().manual_seed(4)
    query = torch.randn(2, layer.num_heads, queries, layer.qk_head_dim, generator=generator)
    latent = torch.randn(2, 1, 40, layer.kv_lora_rank, generator=generator)
    rope = torch.randn(2, 1, 40, layer.qk_rope_head_dim, generator=generator)
    cache.begin(step(sequences, 0, 40))
    cache.update(latent.view(1, 1, -1, layer.kv_lora_rank), rope.view(1, 1, -1, layer.qk_rope_head_dim), 0)
    cache.begin(step(sequences, 40 - queries, 40))
    got = layer._attend_pages(query.transpose(0, 1).flatten(1, 2).unsqueeze(0), cache).view(2, queries, -1).double()
    expected = by_hand(layer, query, latent, rope, YARN_SOFTMAX_FACTOR)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-4)
    assert (got - by_hand(layer, query, latent, rope, 1.0)).abs().max() > 0.05, "without it the test would not see it"


def test_absorbing_copies_no_weights_and_keeps_their_names() -> None:
    model = tiny_deepseek()
    before = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    absorb(model)
    assert {name: tensor.data_ptr() for name, tensor in model.state_dict().items()} == before
    assert absorb(model) == 0, "a second time there is nothing left to do"


def test_a_module_whose_stock_forward_pass_would_stay_is_refused() -> None:
    model = tiny_deepseek()
    for layer in model.model.layers:
        add_hook_to_module(layer.self_attn, AlignDevicesHook(execution_device=torch.device("cpu")))
        remove_hook_from_module(layer.self_attn)  # which leaves the stock forward on the instance
    with pytest.raises(ValueError, match="hooks"):
        absorb(model)


def test_the_cheaper_form_is_the_one_with_fewer_multiplications() -> None:
    lite = {"rank": 512, "nope": 128, "value": 128}
    assert absorbed_is_cheaper(1, 32_768, **lite)
    assert absorbed_is_cheaper(169, 1_000_000, **lite)
    assert not absorbed_is_cheaper(171, 1_000_000, **lite)
    assert not absorbed_is_cheaper(512, 512, **lite)
