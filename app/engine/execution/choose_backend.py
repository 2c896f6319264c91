"""Chooses the attention backend of a model."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from app.engine.attention.backends.compiled import CompiledBackend
from app.engine.attention.backends.heads import HeadsBackend
from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.backends.on_gpu import triton_backend
from app.engine.attention.protocol import Backend
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import LatentShape, kv_shape
from app.engine.layers.llama import FusedLlamaLayer


def choose_backend(
    config: Any, layers: Sequence[nn.Module], dtype: torch.dtype, devices: Sequence[torch.device]
) -> Backend:
    """`config` is transformers', `layers` are those that will run, on `devices`."""
    shape = kv_shape(config.to_dict())
    if all(device.type == "cuda" for device in devices):
        kernels = triton_backend(shape, PAGE_SIZE, dtype, config.num_attention_heads, devices)
        if kernels is not None:
            return kernels
    if isinstance(shape, LatentShape):
        return LatentsBackend(shape, PAGE_SIZE, dtype)
    fused = [layer for layer in layers if isinstance(layer, FusedLlamaLayer)]
    if layers and len(fused) == len(layers):
        return CompiledBackend(shape, PAGE_SIZE, dtype, fused[0].kernels)
    return HeadsBackend(shape, PAGE_SIZE, dtype)
