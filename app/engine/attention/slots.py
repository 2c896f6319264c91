"""Attention over the slots: the function that stock transformers attention modules call.

The modules see one batch row of all the step's tokens, so that every linear layer is one multiplication;
attention alone looks at which sequence a row belongs to.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface

from app.engine.kv.cache import SlotCache
from app.engine.kv.layout import Group, Span

NAME = "slots"
"""What `attn_implementation` calls it."""

LONG = 256
"""Attended tokens from which plain products beat the fused kernel on a CPU in bfloat16: at 512 tokens they took 331
against 785 microseconds for 16 sequences, at 128 about as long (docs/decisions/0003-speed-without-a-gpu.md)."""


def register() -> None:
    """Make transformers know the attention function by its name."""
    AttentionInterface.register(NAME, slot_attention)


def slot_attention(  # noqa: PLR0917  # transformers' signature for attention functions
    module: nn.Module,
    query: Tensor,
    key: Tensor,  # noqa: ARG001  # the cache has it already
    value: Tensor,  # noqa: ARG001  # likewise
    attention_mask: Tensor | None,  # noqa: ARG001  # the layout holds the masks
    scaling: float | None = None,
    slot_cache: SlotCache | None = None,
    **_kwargs: Any,
) -> tuple[Tensor, None]:
    """`query` is `[1, heads, tokens, dim]`, the result `[1, tokens, heads, dim]`."""
    if slot_cache is None:
        raise RuntimeError("slot attention was called without its cache")
    layer_idx: int = module.layer_idx  # type: ignore[assignment]  # nn.Module types attributes as tensors
    return attend(slot_cache, layer_idx, query, scaling), None


def attend(cache: SlotCache, layer_idx: int, query: Tensor, scaling: float | None) -> Tensor:
    """All rows of a step: each decoding row against its slot, each prompt chunk against its own."""
    layout = cache.layouts[query.device]
    parts = [_decode(cache, group, layer_idx, query[:, :, group.tokens], scaling) for group in layout.groups]
    parts += [attend_span(cache, span, layer_idx, query[:, :, span.tokens], scaling) for span in layout.spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _decode(cache: SlotCache, group: Group, layer_idx: int, query: Tensor, scaling: float | None) -> Tensor:
    """One new token of each sequence, `[1, heads, n, dim]`, against its slot.

    Query heads that share a key head stand in the place of query positions, so keys are never repeated.
    """
    keys, values = cache.view(layer_idx, group.capacity, group.window, group.length)
    heads, n, dim = query.shape[1:]
    rows = query[0].transpose(0, 1).reshape(n, keys.shape[1], heads // keys.shape[1], dim)
    if not group.dense:
        rows = rows.new_zeros(keys.shape[0], *rows.shape[1:]).index_copy_(0, group.rows, rows)
    if keys.dtype == torch.bfloat16 and keys.device.type == "cpu" and group.length >= LONG:
        output = _by_products(rows, keys, values, group.mask, scaling)
    else:
        output = F.scaled_dot_product_attention(rows, keys, values, attn_mask=group.mask, scale=scaling)
    if not group.dense:
        output = output.index_select(0, group.rows)
    return output.reshape(1, n, heads, values.shape[-1])


def _by_products(rows: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    """`softmax(rows · keys * scaling + mask) · values`, softmax in float32: `[n, heads, group, dim]` each but the
    mask. One matrix product over all sequences and heads where the fused kernel makes one for each."""
    n, heads, group, dim = rows.shape
    scores = torch.bmm(rows.reshape(n * heads, group, dim), keys.flatten(0, 1).mT).float()
    scores = scores.mul_(dim**-0.5 if scaling is None else scaling).view(n, heads, group, -1).add_(mask)
    weights = scores.softmax(dim=-1).to(values.dtype)
    return torch.bmm(weights.view(n * heads, group, -1), values.flatten(0, 1)).view(n, heads, group, -1)


def attend_span(cache: SlotCache, span: Span, layer_idx: int, query: Tensor, scaling: float | None) -> Tensor:
    """A prompt chunk, `[1, heads, chunk, dim]`, against everything of its slot up to its end."""
    keys, values = cache.view(layer_idx, span.capacity, slice(span.slot, span.slot + 1), span.end)
    output = F.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=span.mask,
        is_causal=span.mask is None,
        scale=scaling,
        enable_gqa=keys.shape[1] != query.shape[1],
    )
    return output.transpose(1, 2)
