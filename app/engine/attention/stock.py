"""The function that stock transformers attention modules call.

The modules get all tokens of the step as one batch row, so every linear layer is one multiplication. Only attention
tells the sequences apart.
"""

from typing import Any, cast

from torch import Tensor, nn
from transformers import AttentionInterface

from app.engine.attention.backends.heads import HeadsBackend
from app.engine.attention.cache import KvCache

NAME = "pages"
"""What `attn_implementation` calls it."""


def register() -> None:
    """Make transformers know the attention function by its name."""
    AttentionInterface.register(NAME, paged_attention)


def paged_attention(  # noqa: PLR0917  # transformers' signature for attention functions
    module: nn.Module,
    query: Tensor,
    key: Tensor,  # noqa: ARG001  # the cache has it already
    value: Tensor,  # noqa: ARG001  # likewise
    attention_mask: Tensor | None,  # noqa: ARG001  # the plan has the masks
    scaling: float | None = None,
    kv_cache: KvCache | None = None,
    **_kwargs: Any,
) -> tuple[Tensor, None]:
    """`query` is `[1, heads, tokens, dim]`, the result `[1, tokens, heads, dim]`."""
    if kv_cache is None:
        raise RuntimeError("paged attention was called without its cache")
    layer_idx: int = module.layer_idx  # type: ignore[assignment]  # nn.Module types attributes as tensors
    factor = query.shape[-1] ** -0.5 if scaling is None else scaling
    backend = cast("HeadsBackend", kv_cache.backend)
    return backend.attend(kv_cache.plans[query.device], kv_cache.storage(layer_idx), query, factor), None
