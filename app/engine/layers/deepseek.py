"""DeepSeek-V2's layers on a GPU in few operations: a decode step takes 13 a layer where the modules take 31.

Sums and norms are one kernel, a token's queries and latents one product, the router two kernels, and routed and
shared experts two together, or three where their tokens are sorted. The weights are the modules'.

Shapes: t tokens of a step, w width of a token.
"""

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor, nn
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2DecoderLayer, DeepseekV2Moe

from app.engine.attention.cache import KvCache
from app.engine.attention.mla import AbsorbedAttention
from app.engine.layers import triton_experts, triton_norms, triton_router
from app.engine.layers.experts import OURS, ExpertsPolicy


def obstacle(layers: Sequence[nn.Module]) -> str:
    """Why these layers cannot be computed here; empty if they can."""
    for layer in layers:
        if type(layer) is not DeepseekV2DecoderLayer or "forward" in layer.__dict__:
            return f"{type(layer).__name__} is not DeepSeek-V2's own layer"
        attention = layer.self_attn
        if not isinstance(attention, AbsorbedAttention) or attention.q_proj is None:
            return "attention has no product of its own for queries"
        if attention.q_proj.bias is not None or attention.kv_a_proj_with_mqa.bias is not None:
            return "attention has biases"
        if isinstance(layer.mlp, DeepseekV2Moe) and layer.mlp.gate.topk_method != "greedy":
            return "the router limits groups"
    return ""


class FewOperations:
    """Consecutive layers on one device. `policy` says how their experts are computed. Joins their projections."""

    def __init__(self, layers: Sequence[nn.Module], policy: ExpertsPolicy | None) -> None:
        self._layers = cast("list[DeepseekV2DecoderLayer]", list(layers))
        self._policy = policy
        for layer in self._layers:
            cast("AbsorbedAttention", layer.self_attn).join_projections()

    def __call__(self, hidden: Tensor, rotation: Any, cache: KvCache) -> Tensor:
        """`[1, t, w]` to the same. `rotation` is as the model's rotary embedding gives it."""
        stream, normal = hidden[0], self._layers[0].input_layernorm(hidden)[0]
        added: Tensor | None = None
        for layer in self._layers:
            if added is not None:
                stream, normal = _add_norm(stream, added, layer.input_layernorm)
            attended, _ = layer.self_attn(normal[None], position_embeddings=rotation, kv_cache=cache)
            stream, normal = _add_norm(stream, attended[0], layer.post_attention_layernorm)
            added = self._mlp(layer.mlp, normal)
        total = cast("Tensor", added)
        if total.dim() > stream.dim():
            total = total.sum(dim=1)
        return (stream + total).to(hidden.dtype)[None]

    def _mlp(self, mlp: Any, hidden: Tensor) -> Tensor:
        """What it adds to the stream, `[t, w]` or, expert by expert, `[t, k, w]`."""
        if not isinstance(mlp, DeepseekV2Moe):
            return cast("Tensor", mlp(hidden))
        k = cast("int", mlp.config.num_experts_per_tok)
        chosen, shares = triton_router.route(hidden, mlp.gate.weight, k, mlp.gate.routed_scaling_factor)
        if self._policy is not None and self._policy.implementation_for(len(hidden)) == OURS:
            shared = mlp.shared_experts
            weights = shared.gate_proj.weight, shared.up_proj.weight, shared.down_proj.weight
            return triton_experts.experts_parts(mlp.experts, hidden, chosen, shares, weights)
        return cast("Tensor", mlp.experts(hidden, chosen, shares) + mlp.shared_experts(hidden))


def _add_norm(stream: Tensor, added: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    return triton_norms.add_norm(stream, added.contiguous(), norm.weight, norm.variance_epsilon)
