"""A DeepSeek-V2 with random weights, saved as a checkpoint for the product's loader."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, DeepseekV2Config, DeepseekV2ForCausalLM, PreTrainedModel

from app.models.catalogue import DEEPSEEK
from app.models.parameter_count import sizes_of

HEADROOM = 1.25
"""Memory that the check needs, as a multiple of the weights: caches and steps need some, too."""

SMALL: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 128,
    "intermediate_size": 256,
    "moe_intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "n_routed_experts": 16,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
"""Replaces the real dimensions on a CPU."""


def config_for(memory: int) -> tuple[DeepseekV2Config, str]:
    """The real dimensions with as many layers as fit `memory` bytes, and a note on the difference to the real model.

    `memory` 0 means that there is no GPU.
    """
    config = DEEPSEEK.config()
    if memory == 0:
        return _made(config | SMALL), "no GPU: a tiny model, figures mean nothing"
    layers = config["num_hidden_layers"]
    while layers > 2 and 2 * sizes_of(config | {"num_hidden_layers": layers}).parameters * HEADROOM > memory:
        layers -= 1
    note = "" if layers == config["num_hidden_layers"] else f"{layers} of {config['num_hidden_layers']} layers"
    return _made(config | {"num_hidden_layers": layers}), note


def _made(config: Mapping[str, Any]) -> DeepseekV2Config:
    values = {key: value for key, value in config.items() if key != "model_type"}
    made = AutoConfig.for_model("deepseek_v2", **values)
    assert isinstance(made, DeepseekV2Config)  # noqa: S101  # for the type checker
    return made


def random_model(config: DeepseekV2Config, device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """The stock model on a device, its weights drawn there: normal with 0.02, norms at 1."""
    with torch.device("meta"):
        model: Any = DeepseekV2ForCausalLM._from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]  # noqa: SLF001  # one on meta
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.fill_(1.0)
        else:
            parameter.data.normal_(0.0, 0.02, generator=generator)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)  # buffers are not weights
    stock: PreTrainedModel = model.eval().requires_grad_(requires_grad=False)
    return stock


def save(model: nn.Module, folder: Path) -> int:
    """Write a checkpoint like those of the hubs. Returns its size in bytes."""
    model.save_pretrained(folder, max_shard_size="4GB")  # type: ignore[operator]  # a transformers model
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))
