"""Bytes and multiplications of a step of DeepSeek-V2, from its configuration alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.engine.attention.mla import absorbed_is_cheaper
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


class Model:
    """What its steps need, from its configuration."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._layers = sum(sizes_of(config).layers)  # numbers, with all routed experts
        self._head: int = config["vocab_size"] * config["hidden_size"]

    def decode(self, batch: int, context: int) -> Work:
        """Of E experts, `batch` tokens with k each hit E * (1 - (1 - k/E)^batch) on average when routed evenly."""
        config = self._config
        experts, k = config["n_routed_experts"], config["num_experts_per_tok"]
        hit = experts * (1 - (1 - k / experts) ** batch)
        layers, latent = config["num_hidden_layers"], config["kv_lora_rank"] + config["qk_rope_head_dim"]
        read = self._weights(hit) + self._head + batch * context * layers * latent
        heads = config["num_attention_heads"]
        attention = batch * context * layers * heads * (latent + config["kv_lora_rank"])  # the absorbed form
        return Work(read * BYTES, 2 * (batch * (self._weights(k) + self._head) + attention))

    def prefill(self, tokens: int, before: int) -> Work:
        """A chunk of a prompt behind a context, in the expanded form. It hits all experts."""
        config = self._config
        layers, heads = config["num_hidden_layers"], config["num_attention_heads"]
        nope, rope, value = (config[name] for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        rank = config["kv_lora_rank"]
        expanded = (
            before * layers * rank * heads * (nope + value)
        )  # of the context; the chunk's own is in its weights
        seen = tokens * before + tokens * (tokens + 1) / 2
        attention = seen * layers * heads * (nope + rope + value)
        multiplied = tokens * self._weights(config["num_experts_per_tok"]) + self._head + expanded + attention
        read = self._weights(config["n_routed_experts"]) + self._head + before * layers * (rank + rope)
        return Work(read * BYTES, 2 * multiplied)

    def chunk(self, tokens: int, before: int) -> Work:
        """A chunk in the form that the engine takes: for a few tokens that of decoding, else the expanded one."""
        config = self._config
        absorbed = absorbed_is_cheaper(
            tokens,
            before + tokens,
            rank=config["kv_lora_rank"],
            nope=config["qk_nope_head_dim"],
            value=config["v_head_dim"],
        )
        whole = self.prefill(tokens, before)
        if not absorbed:
            return whole
        # As many rows, of which each sees the whole context and one has logits.
        rows = self.decode(tokens, before + tokens)
        return Work(whole.bytes, rows.flops - 2 * (tokens - 1) * self._head)

    def _weights(self, experts: float) -> float:
        """Numbers of all layers with so many routed experts in each."""
        config = self._config
        expert = 3 * config["hidden_size"] * config["moe_intermediate_size"]
        mixtures = config["num_hidden_layers"] - config["first_k_dense_replace"]
        return self._layers - float(mixtures * (config["n_routed_experts"] - experts) * expert)
