"""DeepSeek-V2's attention (multi-head latent attention) without expanding the cache at every step.

The cache holds one latent row `c` of `rank` numbers per token, shared by all heads, and one rotated key row.
`kv_b_proj` makes every head's keys and values from `c`: k = W_UK c, v = W_UV c. The stock module does so for the
whole context at every step. But q · (W_UK c) = (W_UK' q) · c, and sums of W_UV c are W_UV of the sum: with few
queries it is far cheaper to map the query into latent space, attend there, and map the result back. That is
the absorbed form of the DeepSeek-V2 paper (arXiv 2405.04434, section 2.1.2). With many queries the expanded form
is cheaper; `absorbed_is_cheaper` decides. Figures: docs/decisions/0601-absorbed-mla.md.

The softmax factor of YaRN is part of the stock module's `scaling` and is used in both forms.

Shapes: n sequences, h heads, q queries, l cached tokens.
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Attention, apply_rotary_emb

from app.contract.options import FlashAttn
from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.backends.on_gpu import TritonLatents
from app.engine.attention.backends.partial import Part, merge
from app.engine.attention.cache import KvCache
from app.engine.attention.joined import join
from app.engine.attention.paged_plan import Chunk, Group
from app.engine.attention.prefill import PRODUCTS, Kernel, choose_kernel


def absorb(model: nn.Module) -> int:
    """Give every DeepSeek-V2 attention module the forward pass below, in place. Returns how many.

    Weights and names stay as they are. Linear layers may be replaced afterwards, except `kv_b_proj`, whose weight
    is read here. Raises ValueError for a module whose instance has a `forward` of its own, as accelerate's hooks
    leave one: it would hide the one below.
    """
    modules = [module for module in model.modules() if type(module) is DeepseekV2Attention]
    for module in modules:
        if "forward" in module.__dict__:
            raise ValueError("an attention module has a forward pass of its own: remove accelerate's hooks first")
        module.__class__ = AbsorbedAttention
    return len(modules)


def use_kernels(model: nn.Module, wanted: FlashAttn) -> str | None:
    """Give every module the best kernel of its device for prompts; the kernels' names, or None without such modules.

    Raises LoadError where FLASH_ATTN=build is not possible.
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
    """The stock module's weights, arguments and results; computed in another way."""

    prefill: Kernel = PRODUCTS  # of the expanded form: `use_kernels` sets the device's best
    joined: Tensor | None = None  # the weights of `q_proj` over those of `kv_a_proj_with_mqa`: `join_projections`

    def forward(  # type: ignore[override]  # transformers annotates a third result that there is not
        self,
        hidden_states: Tensor,
        *,
        position_embeddings: Any,  # transformers' annotation is a pair; it is one complex tensor
        kv_cache: KvCache,
        **_kwargs: Any,
    ) -> tuple[Tensor, None]:
        """`hidden_states` `[1, tokens, hidden]`, the rows of the cache's step."""
        if isinstance(kv_cache.backend, TritonLatents):
            query = self._project_and_store(hidden_states, position_embeddings, kv_cache, kv_cache.backend)
        else:
            query, latent, rope = self._project(hidden_states, position_embeddings)
            kv_cache.update(latent, rope, self.layer_idx)
        output = self._attend_pages(query, kv_cache)
        return self.o_proj(output), None

    def join_projections(self) -> None:
        """Make queries and latents of a token one product: one launch less. The modules' weights become views of the
        joined one. Only for modules with `q_proj`, and without biases there."""
        if self.joined is None:
            between = [self.kv_b_proj, self.o_proj]
            self.joined = join(cast("nn.Linear", self.q_proj), self.kv_a_proj_with_mqa, beside=between)

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

    def _project_and_store(
        self, hidden_states: Tensor, rotation: Tensor, cache: KvCache, latents: TritonLatents
    ) -> Tensor:
        """The same with one kernel behind the projections: the rotated queries, `[1, h, tokens, nope + rope]`."""
        if self.joined is None:
            queries, compressed = self._queries(hidden_states)[0], self.kv_a_proj_with_mqa(hidden_states)[0]
        else:
            projected = F.linear(hidden_states[0], self.joined)
            queries, compressed = projected.tensor_split([self.num_heads * self.qk_head_dim], dim=1)
        query = queries.view(-1, self.num_heads, self.qk_head_dim)
        plan, storage = cache.plans[query.device], cache.storage(self.layer_idx)
        norm = (self.kv_a_layernorm.weight, self.kv_a_layernorm.variance_epsilon)
        latents.rotate_and_write(plan, storage, query, compressed, rotation=rotation[0], norm=norm)
        return query.transpose(0, 1).unsqueeze(0)

    def _queries(self, hidden_states: Tensor) -> Tensor:
        if self.q_proj is not None:
            return cast("Tensor", self.q_proj(hidden_states))
        down, norm, up = (cast("nn.Module", m) for m in (self.q_a_proj, self.q_a_layernorm, self.q_b_proj))
        return cast("Tensor", up(norm(down(hidden_states))))

    def _attend_pages(self, query: Tensor, cache: KvCache) -> Tensor:
        """All rows of a step, `[1, h, tokens, nope + rope]` to `[1, tokens, h * v]`."""
        plan, storage = cache.plans[query.device], cache.storage(self.layer_idx)
        latents = cast("LatentsBackend", cache.backend)
        output = query.new_empty(query.shape[2], self.num_heads, self.v_head_dim)
        by_head = output.transpose(0, 1)
        for group in plan.groups:
            summed = self._decode(group, storage, query[0, :, group.rows], latents)
            self._out_of_latent_space(summed, by_head[:, group.rows])
        for chunk in plan.chunks:
            rows = query[0, :, chunk.rows]
            if self._absorbs(rows.shape[1], chunk.end):
                summed = latents.chunk(chunk, storage, self._into_latent_space(rows), self.scaling)
                self._out_of_latent_space(summed, by_head[:, chunk.rows])
            else:
                by_head[:, chunk.rows] = self._expanded_chunk(rows, chunk, storage, latents)
        return output.flatten(1).unsqueeze(0)

    def _decode(self, group: Group, storage: Tensor, query: Tensor, latents: LatentsBackend) -> Tensor:
        """`[h, q, nope + rope]` to `[h, q, rank]`."""
        if not isinstance(latents, TritonLatents):
            return latents.decode(group, storage, self._into_latent_space(query), self.scaling)
        nope, rope = torch.split(query, [self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        return latents.decode_apart(group, storage, torch.bmm(nope, self._weights()[0]), rope, self.scaling)

    def _expanded_chunk(self, query: Tensor, chunk: Chunk, storage: Tensor, latents: LatentsBackend) -> Tensor:
        """`[h, q, nope + rope]` to `[h, q, v]`, over every head's own keys and values, in blocks of the context."""
        return merge(self._expanded_parts(query, chunk, storage, latents))[0]

    def _expanded_parts(
        self, query: Tensor, chunk: Chunk, storage: Tensor, latents: LatentsBackend
    ) -> Iterator[Part]:
        scores = 0 if self.prefill.fused else self.num_heads * query.shape[1]
        numbers = self.num_heads * (3 * self.qk_head_dim + self.v_head_dim)  # as projected, as keys, widened values
        for rows in latents.context(chunk, storage, scores_per_token=scores, numbers_per_token=numbers):
            yield self._expanded_part(query, rows, causal=False)
        yield self._expanded_part(query, latents.own(chunk, storage), causal=True)

    def _expanded_part(self, query: Tensor, rows: Tensor, *, causal: bool) -> Part:
        latent, rope = torch.split(rows, [self.kv_lora_rank, self.qk_rope_head_dim], dim=-1)
        key, value = self.expand_kv(latent[None, None], rope[None, None])
        return self.prefill.attend(query.unsqueeze(0), key, value, self.scaling, causal)

    def _into_latent_space(self, query: Tensor) -> Tensor:
        """`[h, q, nope + rope]` to `[h, q, rank + rope]`."""
        nope, rope = torch.split(query, [self.qk_nope_head_dim, self.qk_rope_head_dim], dim=-1)
        return torch.cat((torch.bmm(nope, self._weights()[0]), rope), dim=-1)

    def _out_of_latent_space(self, summed: Tensor, output: Tensor) -> None:
        """`[h, q, rank]` into `[h, q, v]`."""
        torch.bmm(summed, self._weights()[1].mT, out=output)

    def _weights(self) -> tuple[Tensor, Tensor]:
        """W_UK `[h, nope, rank]` and W_UV `[h, v, rank]`: views of `kv_b_proj`, no second copy."""
        weight = self.kv_b_proj.weight.view(self.num_heads, -1, self.kv_lora_rank)
        to_keys, to_values = torch.split(weight, [self.qk_nope_head_dim, self.v_head_dim], dim=1)
        return to_keys, to_values


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
