"""Chooses the kernel for a prompt chunk in the expanded form of latent attention, once for each device at the start.
docs/decisions/0604-which-attention.md has the reasons.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from app.contract.options import FlashAttn
from app.engine.attention.backends.partial import Part, hidden_in_chunk, weigh
from app.engine.errors import LoadError

_log = logging.getLogger(__name__)

FLASH_FROM = (8, 0)
"""Compute capability: Ampere, for torch's own flash kernel as for flash-attn's."""

LIBRARY = "flash_attn"
_HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Kernel:
    """`attend(query, key, value, scaling, causal)`, `[n, h, tokens, dim]` each, values perhaps narrower, to a Part.

    With `causal` there are as many keys as queries, and each sees those up to its own; else every query sees all.
    A kernel that is `fused` never has all scores in memory.
    """

    name: str
    attend: Callable[[Tensor, Tensor, Tensor, float, bool], Part]
    fused: bool = True


def _products(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Part:
    scores = torch.matmul(query, key.mT).float().mul_(scaling)
    weights, lse = weigh(scores, hidden_in_chunk(query.shape[2], query.device) if causal else None)
    return torch.matmul(weights.to(value.dtype), value), lse


def _flash(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Part:
    """torch's own flash kernel, by the operation that also returns the logarithm of the sum."""
    output, lse, *_ = torch.ops.aten._scaled_dot_product_flash_attention(  # noqa: SLF001  # the public one drops it
        query, key, _widened(value, key), 0.0, causal, False, scale=scaling
    )
    return output[..., : value.shape[-1]], lse


def _efficient(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Part:
    output, lse, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(  # noqa: SLF001  # likewise
        query, key, _widened(value, key), None, True, 0.0, causal, scale=scaling
    )
    return output[..., : value.shape[-1]], lse[..., : query.shape[2]]  # its length is rounded up to whole blocks


def _widened(value: Tensor, key: Tensor) -> Tensor:
    """Fused kernels want values as wide as keys."""
    return F.pad(value, (0, key.shape[-1] - value.shape[-1]))


PRODUCTS = Kernel("matrix products", _products, fused=False)
TORCH_FLASH = Kernel("torch flash", _flash)
TORCH_EFFICIENT = Kernel("torch efficient", _efficient)
"""For GPUs and types that torch's flash kernel does not support."""


def settle_sdpa() -> None:
    """Once, on GPUs. On Hopper SDPA prefers cuDNN, which plans every new shape anew, for tens of milliseconds to a
    second; prompts come in every length."""
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)


def choose_kernel(device: torch.device, dtype: torch.dtype, width: int, wanted: FlashAttn) -> Kernel:
    """The kernel for this device, with heads of `width`. Raises LoadError where FLASH_ATTN=build is not possible."""
    if device.type != "cuda":
        return PRODUCTS
    if dtype not in _HALF or torch.cuda.get_device_capability(device) < FLASH_FROM:
        if wanted is FlashAttn.BUILD:
            raise LoadError(
                f"FLASH_ATTN=build: {device} in {dtype} cannot run it; it needs Ampere or newer, and a 16-bit type."
            )
        return TORCH_EFFICIENT
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
    """The library where it is installed and wanted. Raises LoadError where FLASH_ATTN=build is not possible."""
    if wanted is FlashAttn.OFF:
        return None
    if find_spec(LIBRARY) is None:
        if wanted is FlashAttn.BUILD:
            _refuse_or_warn(wanted, "it is not installed")
        return None
    try:
        library = import_module(LIBRARY)
    except (ImportError, OSError, RuntimeError) as error:  # as from a build for another torch
        _refuse_or_warn(wanted, f"it cannot be imported: {error}")
        return None
    function = library.flash_attn_func

    def attend(query: Tensor, key: Tensor, value: Tensor, scaling: float, causal: bool) -> Part:
        """The library wants tokens before heads."""
        q, k, v = query.transpose(1, 2), key.transpose(1, 2), _widened(value, key).transpose(1, 2)
        output, lse, _ = function(q, k, v, softmax_scale=scaling, causal=causal, return_attn_probs=True)
        return output.transpose(1, 2)[..., : value.shape[-1]], lse

    return Kernel(f"flash-attn {library.__version__}", attend)


def _refuse_or_warn(wanted: FlashAttn, reason: str) -> None:
    if wanted is FlashAttn.BUILD:
        raise LoadError(
            f"FLASH_ATTN=build was asked for, and flash-attn does not run: {reason}. Build it for this torch "
            "(`make up` with FLASH_ATTN=build does), or set FLASH_ATTN=auto or off."
        )
    _log.warning("flash-attn is installed but does not run: torch's kernels are used", extra={"reason": reason})


def _try(kernel: Kernel, device: torch.device, dtype: torch.dtype, width: int) -> None:
    """A library may have been built without kernels for this card."""
    query, keys = (torch.zeros(1, 1, tokens, width, device=device, dtype=dtype) for tokens in (2, 8))
    kernel.attend(query, keys, keys, 1.0, False)[0].sum().item()
