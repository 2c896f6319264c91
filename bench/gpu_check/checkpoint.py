"""A DeepSeek-V2 with random weights, saved as a checkpoint for the product's loader."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoConfig, DeepseekV2Config, DeepseekV2ForCausalLM, PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from app.models.catalogue import DEEPSEEK
from app.models.parameter_count import sizes_of
from app.models.placement import Gpu
from app.models.units import GIB
from app.settings import Settings

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


def model_for(gpus: Sequence[Gpu]) -> tuple[DeepseekV2Config, str]:
    """The model that is checked on these GPUs, beside the product's reserve on each, and a note on it."""
    reserve = round(Settings.model_fields["gpu_reserve"].default * GIB)
    return config_for(sum(max(0, gpu.free - reserve) for gpu in gpus))


def config_for(memory: int) -> tuple[DeepseekV2Config, str]:
    """The real dimensions with as many layers as fit `memory` bytes, and a note on the difference to the real model.

    `memory` is what all GPUs have together; 0 means that there is none.
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
    model = _without_memory(config, dtype)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in model.named_parameters():
        _draw(name, parameter.data, generator)
    model.model.rotary_emb = type(model.model.rotary_emb)(config).to(device)  # buffers are not weights
    stock: PreTrainedModel = model.eval().requires_grad_(requires_grad=False)
    return stock


def save(model: nn.Module, folder: Path) -> int:
    """Write a checkpoint like those of the hubs. Returns its size in bytes."""
    model.save_pretrained(folder, max_shard_size="4GB")  # type: ignore[operator]  # a transformers model
    return sum(file.stat().st_size for file in folder.glob("*.safetensors"))


def write_random(config: DeepseekV2Config, folder: Path, device: torch.device, dtype: torch.dtype) -> int:
    """Write the checkpoint of `random_model`, a file for each layer, and return its size in bytes.

    A layer is drawn on `device` and freed before the next: a device need not hold the whole model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model = _without_memory(config, dtype)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)
    generator = torch.Generator(device).manual_seed(0)
    places: dict[str, str] = {}
    for part, parameters in groupby(model.named_parameters(), key=lambda named: _part(named[0])):
        file = f"{part}.safetensors"
        places |= dict.fromkeys(_write_part(model, dict(parameters), folder / file, generator), file)
    size = sum((folder / file).stat().st_size for file in set(places.values()))
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return size


def _write_part(model: Any, shapes: Mapping[str, Tensor], file: Path, generator: torch.Generator) -> list[str]:
    """The names of the tensors in the file: those of the hubs, where each expert has its own."""
    drawn = {}
    for name, shape in shapes.items():
        drawn[name] = torch.empty_like(shape, device=generator.device, requires_grad=False)
        _draw(name, drawn[name], generator)
    tensors = revert_weight_conversion(model, drawn)
    # Experts are views of one tensor, and a file holds no tensors that share memory.
    save_file({name: tensor.to("cpu", copy=True) for name, tensor in tensors.items()}, file, {"format": "pt"})
    return list(tensors)


def _part(name: str) -> str:
    """What is in memory together: model.layers.3.mlp.gate.weight belongs to layer-3."""
    words = name.split(".")
    return f"layer-{words[2]}" if words[1] == "layers" else words[-2]


def _draw(name: str, weights: Tensor, generator: torch.Generator) -> None:
    if "norm" in name:
        weights.fill_(1.0)
    else:
        weights.normal_(0.0, 0.02, generator=generator)


def _without_memory(config: DeepseekV2Config, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        return DeepseekV2ForCausalLM._from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]  # noqa: SLF001  # one on meta
