"""Which kernel computes the causal attention of a prompt chunk in latent attention's expanded form: chosen once for
each device at the start, and said. docs/decisions/0604-which-attention.md has the reasons.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right

from app.contract.options import FlashAttn
from app.engine.errors import LoadError

_log = logging.getLogger(__name__)

FLASH_FROM = (8, 0)
"""Compute capability: Ampere, for torch's own flash kernel as for flash-attn's."""

LIBRARY = "flash_attn"
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Kernel:
    """`attend(query, key, value, mask, scaling)`, all `[n, h, tokens, dim]`; the last query sees every key.

    Where `needs_mask` is false the mask is not looked at: the kernel knows by itself what is causal.
    """

    name: str
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None, float], Tensor]
    needs_mask: bool


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float) -> Tensor:
    causal = mask is None and query.shape[2] > 1
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal, scale=scaling)


def _lower_right(query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, scaling: float) -> Tensor:
    """torch chooses its flash kernel where it can, else its memory-efficient one; both make the mask as they go."""
    causal: Any = causal_lower_right(query.shape[2], key.shape[2])
    return F.scaled_dot_product_attention(query, key, value, attn_mask=causal, scale=scaling)


SDPA = Kernel("sdpa", _sdpa, needs_mask=True)
TORCH_FLASH = Kernel("torch flash", _lower_right, needs_mask=False)
TORCH_CAUSAL = Kernel("torch causal", _lower_right, needs_mask=False)
"""The same call on a GPU, or in a type, that torch's flash kernel does not know: the memory-efficient kernel then."""


def settle_sdpa() -> None:
    """Once, on GPUs. On Hopper SDPA prefers cuDNN, which plans every new shape anew, for tens of milliseconds to a
    second; prompts come in every length."""
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)


def choose_kernel(device: torch.device, dtype: torch.dtype, width: int, wanted: FlashAttn) -> Kernel:
    """The kernel for this device, with heads of `width`. Raises LoadError where FLASH_ATTN=build cannot be had."""
    if device.type != "cuda":
        return SDPA
    if dtype not in _HALF or torch.cuda.get_device_capability(device) < FLASH_FROM:
        if wanted is FlashAttn.BUILD:
            raise LoadError(f"FLASH_ATTN=build: {device} in {dtype} cannot run it; it needs Ampere and 16-bit types.")
        return TORCH_CAUSAL
    library = flash_attn(wanted)
    if library is None:
        return TORCH_FLASH
    try:
        _try(library, device, dtype, width)
    except RuntimeError as error:
        _refuse_or_warn(wanted, f"it fails on {device}: {error}")
        return TORCH_FLASH
    return library


def flash_attn(wanted: FlashAttn) -> Kernel | None:
    """The library where it is installed and wanted. Raises LoadError where FLASH_ATTN=build cannot be had."""
    if wanted is FlashAttn.OFF:
        return None
    if find_spec(LIBRARY) is None:
        if wanted is FlashAttn.BUILD:
            _refuse_or_warn(wanted, "it is not installed")
        return None
    try:
        library = import_module(LIBRARY)
    except (ImportError, OSError, RuntimeError) as error:  # what a build for another torch ends with
        _refuse_or_warn(wanted, f"it cannot be imported: {error}")
        return None
    function = library.flash_attn_func

    def attend(query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, scaling: float) -> Tensor:
        """The library wants tokens before heads; its `causal` aligns the last query with the last key."""
        q, k, v = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        output: Tensor = function(q, k, v, softmax_scale=scaling, causal=True)
        return output.transpose(1, 2)

    return Kernel(f"flash-attn {library.__version__}", attend, needs_mask=False)


def _refuse_or_warn(wanted: FlashAttn, reason: str) -> None:
    if wanted is FlashAttn.BUILD:
        raise LoadError(
            f"FLASH_ATTN=build was asked for, and flash-attn does not run: {reason}. Build it for this torch "
            "(`make up` with FLASH_ATTN=build does), or say FLASH_ATTN=auto or off."
        )
    _log.warning("flash-attn is installed and does not run: torch's kernels serve instead", extra={"reason": reason})


def _try(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int) -> None:
    """A library may have been built without kernels for this card."""
    query, keys = (torch.zeros(1, 1, tokens, width, device=device, dtype=dtype) for tokens in (2, 8))
    kernel.attend(query, keys, keys, None, 1.0).sum().item()
