"""A Llama's layers on a GPU in few operations: a decode step takes 10 a layer where the modules take 29.

Sums and norms are one kernel; queries, keys and values of a token are one product, and so are the MLP's gates and
what they are multiplied with. The weights are the modules'. `llama.py` beside it is for the CPU.

Shapes: t tokens of a step, w width of a token, i width of the MLP, h query heads, k key heads, d their size.
"""

from collections.abc import Sequence
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from app.engine.attention.backends.on_gpu import TritonHeads
from app.engine.attention.cache import KvCache
from app.engine.attention.joined import join
from app.engine.layers import triton_norms, triton_silu

Rotation = tuple[Tensor, Tensor]
"""Cosines and sines, `[1, t, d]` each."""


def obstacle(layers: Sequence[nn.Module]) -> str:
    """Why these layers cannot be computed here; empty if they can."""
    for layer in layers:
        if type(layer) is not LlamaDecoderLayer or "forward" in layer.__dict__:
            return f"{type(layer).__name__} is not Llama's own layer"
        config = layer.self_attn.config
        if config.attention_bias or config.mlp_bias:
            return "the layers have biases"
        if config.hidden_act != "silu":
            return f"the MLP's gate is {config.hidden_act}, not silu"
    return ""


class FewOperations:
    """Consecutive layers on one device. Joins their projections."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        self._layers = [_Layer(cast("LlamaDecoderLayer", layer)) for layer in layers]

    def __call__(self, hidden: Tensor, rotation: Rotation, cache: KvCache) -> Tensor:
        """`[1, t, w]` to the same. `rotation` is as the model's rotary embedding gives it."""
        stream, normal = hidden[0], self._layers[0].attention_norm(hidden)[0]
        added: Tensor | None = None
        for layer in self._layers:
            if added is not None:
                stream, normal = _add_norm(stream, added, layer.attention_norm)
            attended = layer.attend(normal, rotation, cache)
            stream, normal = _add_norm(stream, attended, layer.mlp_norm)
            added = layer.mlp(normal)
        return (stream + cast("Tensor", added))[None]


class _Layer:
    def __init__(self, layer: LlamaDecoderLayer) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.attention_norm, self.mlp_norm = layer.input_layernorm, layer.post_attention_layernorm
        self._attention = attention
        projections = attention.q_proj, attention.k_proj, attention.v_proj
        self._states = join(*projections, beside=[attention.o_proj])  # [(h + 2k) * d, w]
        self._gates = join(mlp.gate_proj, mlp.up_proj)  # [2i, w]
        self._down = mlp.down_proj

    def attend(self, normal: Tensor, rotation: Rotation, cache: KvCache) -> Tensor:
        """`[t, w]` to what attention adds to the stream, `[t, w]`."""
        attention, backend = self._attention, cast("TritonHeads", cache.backend)
        plan, storage = cache.plans[normal.device], cache.storage(attention.layer_idx)
        states = F.linear(normal, self._states).view(len(normal), -1, attention.head_dim)
        backend.rotate_and_write(plan, storage, states, rotation)
        queries = states[:, : attention.config.num_attention_heads].transpose(0, 1)
        mixed = backend.attend(plan, storage, queries[None], attention.scaling)
        return cast("Tensor", attention.o_proj(mixed[0].flatten(1)))

    def mlp(self, normal: Tensor) -> Tensor:
        """`[t, w]` to what the MLP adds to the stream, `[t, w]`."""
        return cast("Tensor", self._down(triton_silu.silu_product(F.linear(normal, self._gates))))


def _add_norm(stream: Tensor, added: Tensor, norm: LlamaRMSNorm) -> tuple[Tensor, Tensor]:
    return triton_norms.add_norm(stream, added, norm.weight, norm.variance_epsilon)
