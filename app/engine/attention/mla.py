"""DeepSeek-V2's attention (multi-head latent attention) without expanding the cache at every step.

The cache holds one latent row `c` of `rank` numbers per token, shared by all heads, and one rotated key row.
`kv_b_proj` makes every head's keys and values from `c`: k = W_UK c, v = W_UV c. The stock module does so for the
whole context at every step. But q · (W_UK c) = (W_UK' q) · c, and sums of W_UV c are W_UV of the sum: with few
queries it is far cheaper to bring the query into latent space, attend there, and bring the result back. That is
the absorbed form of the DeepSeek-V2 paper (arXiv 2405.04434, section 2.1.2). With many queries the expanded form
is cheaper; `absorbed_is_cheaper` decides. Figures: docs/decisions/0601-absorbed-mla.md.

The softmax factor of YaRN is part of the stock module's `scaling` and is used in both forms.

Shapes: n sequences, h heads, q queries, l cached tokens.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Cache
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, apply_rotary_emb

from app.contract.options import FlashAttn
from app.engine.attention.prefill import SDPA, Kernel, choose_kernel
from app.engine.kv.cache import SlotCache


def absorb(model: nn.Module) -> int:
    """Give every DeepSeek-V2 attention module the forward pass below, in place. Returns how many.

    Weights and names stay as they are. Linear layers may be replaced afterwards, except `kv_b_proj`, whose weight
    is read here. Raises ValueError for a module whose instance has a `forward` of its own, as accelerate's hooks
    leave one: it would go on running and hide the one below.
    """
    modules = [module for module in model.modules() if type(module) is DeepseekV2Attention]
    for module in modules:
        if "forward" in module.__dict__:
            raise ValueError("an attention module has a forward pass of its own: remove accelerate's hooks first")
        module.__class__ = AbsorbedAttention
    return len(modules)


def use_kernels(model: nn.Module, wanted: FlashAttn) -> str | None:
    """Give every module the best kernel of its device for prompts; the kernels' names, or None without such modules.

    Raises LoadError where FLASH_ATTN=build cannot be had.
    """
    kernels: dict[torch.device, Kernel] = {}
    for module in model.modules():
        if isinstance(module, AbsorbedAttention):
            weight = module.kv_b_proj.weight
            if weight.device not in kernels:
                kernels[weight.device] = choose_kernel(weight.device, weight.dtype, module.qk_head_dim, wanted)
            module.prefill = kernels[weight.device]
    return " and ".join(sorted({kernel.name for kernel in kernels.values()})) or None


class AbsorbedAttention(DeepseekV2Attention):
    """The stock module's weights, arguments and results; another way to compute them."""

    prefill: Kernel = SDPA  # of the expanded form: `use_kernels` sets the device's best

    def forward(  # type: ignore[override]  # transformers annotates a third result that there is not
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        past_key_values: Cache | None = None,
        position_embeddings: Any = None,  # annotated as a pair by transformers, and one complex tensor in truth
        slot_cache: SlotCache | None = None,
        **_kwargs: Any,
    ) -> tuple[Tensor, None]:
        """`hidden_states` `[n, q, hidden]`; with `slot_cache` `[1, tokens, hidden]`, the rows of its layout.

        `attention_mask` is bool (true: attend) or additive, `[n, 1, q, l]`; None: causal, the last query sees all.
        """
        query, latent, rope = self._project(hidden_states, position_embeddings)
        if past_key_values is not None:
            latent, rope = past_key_values.update(latent, rope, self.layer_idx)
        if slot_cache is None:
            output = self.attend(query, latent, rope, attention_mask, causal=attention_mask is None)
        else:
            output = self._attend_slots(query, slot_cache)
        return self.o_proj(output), None

    def attend(self, query: Tensor, latent: Tensor, rope: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """`query` `[n, h, q, nope + rope]`, `latent` `[n, 1, l, rank]`, `rope` `[n, 1, l, rope]` to `[n, q, h * v]`.

        `causal` says that the mask, or its absence, means just that: query i of q sees the first l - q + i + 1.
        """
        queries, length = query.shape[2], latent.shape[2]
        absorbed = self._absorbs(queries, length)
        masked = absorbed or (self.prefill.needs_mask and queries != length)  # else SDPA's own causal mask fits
        if mask is None and queries > 1 and masked:
            mask = _causal_mask(queries, length, query.device)
        if absorbed:
            output = self._absorbed(query, latent, rope, mask)
        else:
            output = self._expanded(query, latent, rope, mask, causal=causal)
        return output.transpose(1, 2).flatten(2)

    def _absorbs(self, queries: int, length: int) -> bool:
        return absorbed_is_cheaper(
            queries, length, rank=self.kv_lora_rank, nope=self.qk_nope_head_dim, value=self.v_head_dim
        )

    def _project(self, hidden_states: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries `[n, h, q, nope + rope]`, and what the cache holds of the new tokens."""
        n, queries = hidden_states.shape[:-1]
        query = self._queries(hidden_states).view(n, queries, -1, self.qk_head_dim).transpose(1, 2)
        nope, query_rope = torch.split(query, [self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        compressed = self.kv_a_proj_with_mqa(hidden_states)
        latent, rope = torch.split(compressed, [self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        query_rope, rope = apply_rotary_emb(query_rope, rope.unsqueeze(1), rotation)
        return torch.cat((nope, query_rope), dim=-1), self.kv_a_layernorm(latent).unsqueeze(1), rope

    def _queries(self, hidden_states: Tensor) -> Tensor:
        if self.q_proj is not None:
            return cast("Tensor", self.q_proj(hidden_states))
        down, norm, up = (cast("nn.Module", m) for m in (self.q_a_proj, self.q_a_layernorm, self.q_b_proj))
        return cast("Tensor", up(norm(down(hidden_states))))

    def _attend_slots(self, query: Tensor, slots: SlotCache) -> Tensor:
        """All rows of a step, `[1, h, tokens, nope + rope]` to `[1, tokens, h * v]`: see `attention.slots`."""
        layout = slots.layouts[query.device]
        outputs = []
        for group in layout.groups:
            latent, rope = slots.view(self.layer_idx, group.capacity, group.window, group.length)
            rows = query[0, :, group.tokens].transpose(0, 1).unsqueeze(2)
            if not group.dense:
                rows = rows.new_zeros(latent.shape[0], *rows.shape[1:]).index_copy_(0, group.rows, rows)
            output = self.attend(rows, latent, rope, group.mask, causal=False)
            outputs.append((output if group.dense else output.index_select(0, group.rows)).transpose(0, 1))
        for span in layout.spans:
            slot = slice(span.slot, span.slot + 1)
            latent, rope = slots.view(self.layer_idx, span.capacity, slot, span.end)
            masked = self.prefill.needs_mask or self._absorbs(span.end - span.start, span.end)
            mask = span.mask if masked else None
            outputs.append(self.attend(query[:, :, span.tokens], latent, rope, mask, causal=True))
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)

    def _absorbed(self, query: Tensor, latent: Tensor, rope: Tensor, mask: Tensor | None) -> Tensor:
        """Attention in latent space, `[n, h, q, v]`. The weights are views of `kv_b_proj`: no second copy."""
        weight = self.kv_b_proj.weight.view(self.num_heads, -1, self.kv_lora_rank)
        to_keys, to_values = torch.split(weight, [self.qk_nope_head_dim, self.v_head_dim], dim=1)
        nope, query_rope = torch.split(query, [self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        query_latent = torch.einsum("nhqd,hdr->nhqr", nope, to_keys)
        summed = attend_latent(query_latent, query_rope, latent, rope, mask=mask, scaling=self.scaling)
        return torch.einsum("nhqr,hvr->nhqv", summed, to_values)

    def _expanded(self, query: Tensor, latent: Tensor, rope: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """Attention over every head's own keys and values, `[n, h, q, v]`.

        Fused kernels want values as wide as keys: pad them with zeros and cut the result.
        """
        key, value = self.expand_kv(latent, rope)
        value = F.pad(value, (0, self.qk_head_dim - self.v_head_dim))
        kernel = self.prefill if causal else SDPA
        return kernel.attend(query, key, value, mask, self.scaling)[..., : self.v_head_dim]


def absorbed_is_cheaper(queries: int, length: int, *, rank: int, nope: int, value: int) -> bool:
    """Whether the absorbed form takes fewer multiplications, for `queries` per sequence over `length` tokens.

    Per head, without what both share (the rotated part of the scores):
        expanded: length * rank * (nope + value)  +  queries * length * (nope + value)
        absorbed: queries * rank * (nope + value)  +  queries * length * 2 * rank
    At DeepSeek-Coder-V2-Lite's dimensions and long contexts it is, up to 170 queries; when a whole prompt is
    computed at once, never.
    """
    expanded = length * rank * (nope + value) + queries * length * (nope + value)
    absorbed = queries * rank * (nope + value) + queries * length * 2 * rank
    return absorbed < expanded


def attend_latent(
    query_latent: Tensor, query_rope: Tensor, latent: Tensor, rope: Tensor, *, mask: Tensor | None, scaling: float
) -> Tensor:
    """softmax((query_latent · latent + query_rope · rope) * scaling + mask) · latent, softmax in float32.

    `[n, h, q, rank]`, `[n, h, q, rope]`, `[n, 1, l, rank]`, `[n, 1, l, rope]` to `[n, h, q, rank]`. All heads share
    the latent, so heads and queries are the rows of one multiplication per sequence.
    """
    n, heads, queries, rank = query_latent.shape
    length = latent.shape[2]
    shared = latent.squeeze(1)
    scores = _products(query_latent.reshape(n, heads * queries, rank), shared)
    scores = scores.add_(_products(query_rope.reshape(n, heads * queries, -1), rope.squeeze(1))).mul_(scaling)
    scores = scores.view(n, heads, queries, length)
    if mask is not None:
        # The lowest float and not -inf: a padded row that sees nothing must not become NaN.
        lowest = torch.finfo(scores.dtype).min
        scores = scores.masked_fill_(~mask, lowest) if mask.dtype == torch.bool else scores.add_(mask)
    weights = scores.softmax(dim=-1).to(latent.dtype)
    return torch.bmm(weights.view(n, heads * queries, length), shared).view(n, heads, queries, rank)


def _products(rows: Tensor, columns: Tensor) -> Tensor:
    """rows · columns in float32, `[n, a, d]` and `[n, b, d]` to `[n, a, b]`.

    CUDA gives the float32 that it summed in; elsewhere the sums are rounded to the input's type first.
    """
    if rows.device.type == "cuda" and rows.dtype != torch.float32:
        return torch.bmm(rows, columns.mT, out_dtype=torch.float32)
    return torch.bmm(rows, columns.mT).float()


def _causal_mask(queries: int, length: int, device: torch.device) -> Tensor:
    positions = torch.arange(length, device=device)
    return positions[None, :] <= positions[length - queries :, None]
