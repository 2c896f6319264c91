"""Bytes and multiplications of a step of DeepSeek-V2, from its configuration alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.models.parameter_count import sizes_of

BYTES = 2  # of a number, bfloat16


@dataclass(frozen=True, slots=True)
class Work:
    """What a step must read, and what it must multiply (a multiplication and its sum are two)."""

    bytes: float
    flops: float

    def floor(self, bandwidth: float, flops: float) -> float:
        """Seconds on a card of so many bytes and operations per second, which does both at the same time."""
        return max(self.bytes / bandwidth, self.flops / flops)


def decode(config: Mapping[str, Any], batch: int, context: int) -> Work:
    """Of E experts, `batch` tokens with k each hit E * (1 - (1 - k/E)^batch) on average when routed evenly."""
    experts, k = config["n_routed_experts"], config["num_experts_per_tok"]
    hit = experts * (1 - (1 - k / experts) ** batch)
    layers, latent = config["num_hidden_layers"], config["kv_lora_rank"] + config["qk_rope_head_dim"]
    read = _weights(config, hit) + _head(config) + batch * context * layers * latent
    heads = config["num_attention_heads"]
    attention = batch * context * layers * heads * (latent + config["kv_lora_rank"])  # the absorbed form
    return Work(read * BYTES, 2 * (batch * (_weights(config, k) + _head(config)) + attention))


def prefill(config: Mapping[str, Any], tokens: int, before: int) -> Work:
    """A chunk of a prompt behind a context, in the expanded form. It hits all experts."""
    layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
    nope, rope, value = (config[name] for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    rank = config["kv_lora_rank"]
    expanded = before * layers * rank * heads * (nope + value)  # of the context; the chunk's own is in its weights
    seen = tokens * before + tokens * (tokens + 1) / 2
    attention = seen * layers * heads * (nope + rope + value)
    multiplied = tokens * _weights(config, config["num_experts_per_tok"]) + _head(config) + expanded + attention
    read = _weights(config, config["n_routed_experts"]) + _head(config) + before * layers * (rank + rope)
    return Work(read * BYTES, 2 * multiplied)


def _weights(config: Mapping[str, Any], experts: float) -> float:
    """Numbers of all layers with so many routed experts in each."""
    expert = 3 * config["hidden_size"] * config["moe_intermediate_size"]
    mixtures = config["num_hidden_layers"] - config["first_k_dense_replace"]
    return sum(sizes_of(config).layers) - float(mixtures * (config["n_routed_experts"] - experts) * expert)


def _head(config: Mapping[str, Any]) -> int:
    size: int = config["vocab_size"] * config["hidden_size"]
    return size
