"""The numbers that one layer keeps of a token, from the model's config."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class HeadsShape:
    """A key and a value for each head."""

    heads: int
    dim: int

    @property
    def elements(self) -> int:
        return 2 * self.heads * self.dim


@dataclass(frozen=True, slots=True)
class LatentShape:
    """Latent attention: one compressed row for all heads, and one rotated key row."""

    rank: int
    rope: int

    @property
    def elements(self) -> int:
        return self.rank + self.rope


def kv_shape(config: Mapping[str, Any]) -> HeadsShape | LatentShape:
    """From `config.json`'s fields."""
    if config.get("kv_lora_rank") is not None:
        return LatentShape(int(config["kv_lora_rank"]), int(config["qk_rope_head_dim"]))
    heads = int(config["num_attention_heads"])
    return HeadsShape(
        int(config.get("num_key_value_heads") or heads),
        int(config.get("head_dim") or config["hidden_size"] // heads),
    )
