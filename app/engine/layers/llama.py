"""A Llama layer for the CPU: four multiplications, and compiled kernels for everything between them.

At one sequence a decode step of the stock layer is bound by the overhead of each call and not by memory, at 32 by the
small matrix products of attention: docs/decisions/0004-compiled-kernels.md.
"""

import logging
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from app.engine.attention.backends.compiled import CompiledBackend
from app.engine.attention.cache import KvCache
from app.engine.cpu_kernels.errors import KernelError
from app.engine.cpu_kernels.layer import LayerKernels, kernels_for
from app.engine.cpu_kernels.shape import Shape
from app.engine.kv.pages import PAGE_SIZE

_log = logging.getLogger(__name__)


def fuse(model: nn.Module) -> int:
    """Replace the layers of a plain Llama, in place. Returns how many; 0 for every other model, and where there are
    no kernels."""
    layers = getattr(getattr(model, "model", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not all(_plain(layer) for layer in layers):
        return 0
    plain = [cast("LlamaDecoderLayer", layer) for layer in layers]
    try:
        kernels = kernels_for(_shape(plain[0]))
    except KernelError as error:
        _log.warning("the layers are not fused", extra={"reason": str(error)})
        return 0
    for index, layer in enumerate(plain):
        layers[index] = FusedLlamaLayer(layer, kernels)
    return len(layers)


def _plain(layer: nn.Module) -> bool:
    """Exactly a Llama layer, without biases, with SiLU: what the fused form computes."""
    if type(layer) is not LlamaDecoderLayer:
        return False
    config = layer.self_attn.config
    return not config.attention_bias and not config.mlp_bias and config.hidden_act == "silu"


def _shape(layer: LlamaDecoderLayer) -> Shape:
    """All layers of a model have the same."""
    attention, config = layer.self_attn, layer.self_attn.config
    return Shape(
        dtype=str(layer.input_layernorm.weight.dtype).removeprefix("torch."),
        heads=config.num_attention_heads,
        key_heads=cast("int", config.num_key_value_heads),
        dim=attention.head_dim,
        scaling=attention.scaling,
        width=config.hidden_size,
        inner=config.intermediate_size,
        epsilon=layer.input_layernorm.variance_epsilon,
        page=PAGE_SIZE,
    )


class FusedLlamaLayer(nn.Module):
    """The decoder calls it like any other layer. `hidden` is `[1, tokens, hidden]`."""

    def __init__(self, layer: LlamaDecoderLayer, kernels: LayerKernels) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        self.layer_idx = attention.layer_idx
        self._scaling = attention.scaling
        self.kernels = kernels
        self.attention_norm = layer.input_layernorm.weight
        self.mlp_norm = layer.post_attention_layernorm.weight
        self.qkv = _stacked(attention.q_proj, attention.k_proj, attention.v_proj)
        self.output = attention.o_proj
        self.gate_up = _stacked(mlp.gate_proj, mlp.up_proj)
        self.down = mlp.down_proj

    def forward(
        self, hidden: Tensor, position_embeddings: tuple[Tensor, Tensor], kv_cache: KvCache, **_kwargs: Any
    ) -> Tensor:
        kernels = self.kernels
        states = self.qkv(kernels.norm(hidden, self.attention_norm))
        mixed: Tensor = self.output(self._attend(states, position_embeddings, kv_cache))
        hidden = hidden + mixed
        down: Tensor = self.down(kernels.gate(self.gate_up(kernels.norm(hidden, self.mlp_norm))))
        return hidden + down

    def _attend(self, states: Tensor, rotary: tuple[Tensor, Tensor], cache: KvCache) -> Tensor:
        backend = cast("CompiledBackend", cache.backend)
        plan, storage = cache.plans[states.device], cache.storage(self.layer_idx)
        return backend.attend_states(plan, storage, states, rotary, self._scaling)


def _stacked(*parts: nn.Linear) -> nn.Linear:
    """One linear layer that computes several, one behind the other."""
    weight = torch.cat([part.weight for part in parts])
    stacked = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    stacked.weight = nn.Parameter(weight, requires_grad=False)
    return stacked
