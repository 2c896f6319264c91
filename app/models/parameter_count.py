"""Counts a model's parameters from its config, without weights and without torch.

The counts follow transformers' own classes; a test holds them against those on the meta device.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from app.models.errors import UnknownArchitecture

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Parameters of each part, and the elements that one token takes in one layer's KV cache."""

    embedding: int
    layers: tuple[int, ...]
    norm: int
    head: int  # 0 when the head is the embedding itself
    kv_elements: int

    @property
    def parameters(self) -> int:
        return self.embedding + sum(self.layers) + self.norm + self.head


def sizes_of(config: Config) -> Sizes:
    """Raises UnknownArchitecture."""
    model_type = config.get("model_type")
    if model_type not in _DECODERS:
        raise UnknownArchitecture(f"model type {model_type!r}; known are {', '.join(sorted(_DECODERS))}")
    try:
        layers, kv_elements = _DECODERS[model_type](config)
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    except KeyError as error:
        raise UnknownArchitecture(f"the config of model type {model_type!r} has no {error}") from None
    tied = config.get("tie_word_embeddings", False)
    return Sizes(
        embedding=vocabulary * hidden,
        layers=layers,
        norm=hidden,
        head=0 if tied else vocabulary * hidden,
        kv_elements=kv_elements,
    )


def _linear(inputs: int, outputs: int, *, bias: bool = False) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _gated(hidden: int, intermediate: int, *, bias: bool = False) -> int:
    """A gated feed-forward block: gate, up and down."""
    return 2 * _linear(hidden, intermediate, bias=bias) + _linear(intermediate, hidden, bias=bias)


def _llama(config: Config) -> tuple[tuple[int, ...], int]:
    return _grouped(
        config, qkv_bias=config.get("attention_bias", False), out_bias=config.get("attention_bias", False)
    )


def _mistral(config: Config) -> tuple[tuple[int, ...], int]:
    return _grouped(config, qkv_bias=False, out_bias=False)


def _qwen2(config: Config) -> tuple[tuple[int, ...], int]:
    return _grouped(config, qkv_bias=True, out_bias=False)


def _grouped(config: Config, *, qkv_bias: bool, out_bias: bool) -> tuple[tuple[int, ...], int]:
    """Grouped-query attention and a gated block: every key/value head keeps a key and a value."""
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    dim = config.get("head_dim") or hidden // heads
    attention = (
        _linear(hidden, heads * dim, bias=qkv_bias)
        + 2 * _linear(hidden, kv_heads * dim, bias=qkv_bias)
        + _linear(heads * dim, hidden, bias=out_bias)
    )
    feed_forward = _gated(hidden, config["intermediate_size"], bias=config.get("mlp_bias", False))
    layer = attention + feed_forward + 2 * hidden
    return (layer,) * config["num_hidden_layers"], 2 * kv_heads * dim


def _deepseek_v2(config: Config) -> tuple[tuple[int, ...], int]:
    """Latent attention and a mixture of experts. The cache holds the latent and the rotary key (arXiv 2405.04434)."""
    hidden = config["hidden_size"]
    attention = _latent_attention(config)
    dense = _gated(hidden, config["intermediate_size"])
    expert = config["moe_intermediate_size"]
    mixture = (
        config["n_routed_experts"] * _gated(hidden, expert)
        + _gated(hidden, expert * config["n_shared_experts"])
        + _linear(hidden, config["n_routed_experts"])
    )
    first_mixture = config.get("first_k_dense_replace", 0)
    layers = tuple(
        attention + 2 * hidden + (mixture if layer >= first_mixture else dense)
        for layer in range(config["num_hidden_layers"])
    )
    return layers, config["kv_lora_rank"] + config["qk_rope_head_dim"]


def _latent_attention(config: Config) -> int:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    bias = config.get("attention_bias", False)
    rank, rotary = config["kv_lora_rank"], config["qk_rope_head_dim"]
    nope, value = config["qk_nope_head_dim"], config["v_head_dim"]
    query_rank = config["q_lora_rank"]
    if query_rank is None:
        query = _linear(hidden, heads * (nope + rotary))
    else:
        query = _linear(hidden, query_rank, bias=bias) + query_rank + _linear(query_rank, heads * (nope + rotary))
    compress = _linear(hidden, rank + rotary, bias=bias) + rank
    expand = _linear(rank, heads * (nope + value))
    parts: list[int] = [query, compress, expand, _linear(heads * value, hidden, bias=bias)]
    return sum(parts)


_DECODERS: dict[str, Callable[[Config], tuple[tuple[int, ...], int]]] = {
    "deepseek_v2": _deepseek_v2,
    "llama": _llama,
    "mistral": _mistral,
    "qwen2": _qwen2,
}
