"""Absorbed latent attention gives the stock module's numbers."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_module
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, DeepseekV2RotaryEmbedding

from app.engine.attention.mla import AbsorbedAttention, absorb, absorbed_is_cheaper
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


def logits(model: PreTrainedModel, tokens: Tensor, mask: Tensor | None = None, cuts: Sequence[int] = PARTS) -> Tensor:
    """The logits of a text that goes through the model in parts, over one cache."""
    cache = DynamicCache(config=model.config)
    out, start = [], 0
    with torch.no_grad():
        for end in cuts:
            seen = None if mask is None else mask[:, :end]
            out.append(model(input_ids=tokens[:, start:end], attention_mask=seen, past_key_values=cache).logits)
            start = end
    return torch.cat(out, dim=1)


@pytest.mark.parametrize("changes", [{}, {"yarn": True}, {"q_lora_rank": 48, "attention_bias": True}])
def test_prefill_chunks_and_decode_equal_the_stock_model(changes: dict[str, Any]) -> None:
    stock, ours = tiny_deepseek(**changes), tiny_deepseek(**changes)
    assert absorb(ours) == 4
    tokens = ids(3, 50)
    torch.testing.assert_close(logits(ours, tokens), logits(stock, tokens), atol=5e-5, rtol=1e-4)


def test_padded_rows_equal_the_stock_model_and_stay_finite() -> None:
    stock, ours = tiny_deepseek(), tiny_deepseek()
    absorb(ours)
    tokens = ids(3, 50)
    mask = torch.ones_like(tokens)
    mask[1, :7] = 0  # padded in front: these rows see nothing at all
    mask[2, :25] = 0  # beyond the first cut: also rows of a chunk that is computed absorbed
    got, want = logits(ours, tokens, mask), logits(stock, tokens, mask)
    assert got.isfinite().all()
    real = mask.bool()
    torch.testing.assert_close(got[real], want[real], atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("queries", [1, 5])
def test_both_kinds_of_mask_hide_what_lies_behind_a_sequence(additive: bool, queries: int) -> None:
    ours = lite_layer(**SMALL)
    length, ends = 40, torch.tensor([40, 23, 31])
    mask = (torch.arange(length) < ends[:, None])[:, None, None, :].expand(-1, 1, queries, -1)
    query, latent, rope = states(ours, 3, queries, length)
    given = torch.zeros(mask.shape).masked_fill_(~mask, -math.inf) if additive else mask
    want = ours.attend(query, latent, rope, given, causal=False)
    for row, end in enumerate(ends.tolist()):
        latent[row, :, end:], rope[row, :, end:] = 7.0, -7.0
        one = slice(row, row + 1)
        cut = torch.ones(1, 1, queries, end, dtype=torch.bool)
        alone = ours.attend(query[one], latent[one, :, :end], rope[one, :, :end], cut, causal=False)
        torch.testing.assert_close(alone, want[one], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.attend(query, latent, rope, given, causal=False), want)


def lite_layer(kind: type[DeepseekV2Attention] = AbsorbedAttention, **changes: Any) -> Any:
    """One attention layer; at Lite's own size if nothing is changed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        layer = kind(deepseek_config(**(LITE | changes)), layer_idx=0).eval().requires_grad_(requires_grad=False)
        for parameter in layer.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    return layer


def states(layer: Any, rows: int, queries: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return (
        torch.randn(rows, layer.num_heads, queries, layer.qk_head_dim, generator=generator),
        torch.randn(rows, 1, length, layer.kv_lora_rank, generator=generator),
        torch.randn(rows, 1, length, layer.qk_rope_head_dim, generator=generator),
    )


def stock_and_absorbed(dtype: torch.dtype, queries: int) -> tuple[Tensor, Tensor]:
    """One layer of Lite's size over 300 cached tokens: the outputs of the stock module and of ours."""
    outputs = []
    config = deepseek_config(**LITE)
    generator = torch.Generator().manual_seed(5)
    hidden = torch.randn(2, 300 + queries, 2048, generator=generator).to(dtype)
    rotation = DeepseekV2RotaryEmbedding(config)(hidden, torch.arange(hidden.shape[1])[None])
    for kind in (DeepseekV2Attention, AbsorbedAttention):
        layer = lite_layer(kind).to(dtype)
        layer.config._attn_implementation = "sdpa"
        cache = DynamicCache(config=config)
        mask = torch.ones(queries, 300 + queries, dtype=torch.bool).tril(300)[None, None].expand(2, -1, -1, -1)
        with torch.no_grad():
            layer(hidden[:, :300], None, cache, rotation[:, :300])
            outputs.append(layer(hidden[:, 300:], mask, cache, rotation[:, 300:])[0])
    return outputs[0], outputs[1]


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
        heads.append(scores.softmax(-1) @ keys_values[..., layer.qk_nope_head_dim :])
    return torch.cat(heads, dim=-1)


@pytest.mark.parametrize("queries", [1, 40])  # absorbed, expanded
def test_yarns_softmax_factor_is_in_the_scores(queries: int) -> None:
    assert pytest.approx(1.5896, abs=1e-4) == YARN_SOFTMAX_FACTOR
    layer = lite_layer(**SMALL)
    query, latent, rope = states(layer, 2, queries, 40)
    mask = torch.ones(2, 1, queries, 40, dtype=torch.bool)
    got = layer.attend(query, latent, rope, mask, causal=False).double()
    torch.testing.assert_close(got, by_hand(layer, query, latent, rope, YARN_SOFTMAX_FACTOR), atol=1e-5, rtol=1e-4)
    assert (got - by_hand(layer, query, latent, rope, 1.0)).abs().max() > 0.05, "without it the test would not see it"


def test_without_a_mask_attention_is_causal_and_ends_with_the_last_token() -> None:
    layer = lite_layer(**SMALL)
    query, latent, rope = states(layer, 1, 40, 40)
    whole = layer.attend(query, latent, rope, None, causal=True)
    for queries in (1, 6, 30):
        tail = layer.attend(query[:, :, -queries:], latent, rope, None, causal=True)
        torch.testing.assert_close(tail, whole[:, -queries:], atol=1e-5, rtol=1e-4)


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


def watch(module: AbsorbedAttention, taken: list[int]) -> Any:
    attend = module.attend

    def watched(*args: Any, **kwargs: Any) -> Tensor:
        taken.append(module.layer_idx)
        return attend(*args, **kwargs)

    return watched


def test_the_cheaper_form_is_the_one_with_fewer_multiplications() -> None:
    lite = {"rank": 512, "nope": 128, "value": 128}
    assert absorbed_is_cheaper(1, 32_768, **lite)
    assert absorbed_is_cheaper(169, 1_000_000, **lite)
    assert not absorbed_is_cheaper(171, 1_000_000, **lite)
    assert not absorbed_is_cheaper(512, 512, **lite)
