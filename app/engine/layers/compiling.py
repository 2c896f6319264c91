"""`COMPILE=layers`: torch.compile for the norms and the MLP or experts of every layer. For GPUs; not measured here.

Attention is not compiled: the number and lengths of its contexts change at every step, and every change would be
compiled anew. The compiled code takes any number of tokens for the same reason.
"""

from collections.abc import Callable
from typing import Any, cast

from torch import nn

Backend = str | Callable[..., Any]


def compile_layers(model: nn.Module, backend: Backend = "inductor") -> int:
    """Mark the modules for compilation, which happens at their first calls, in the warm-up. Returns how many."""
    layers = cast("nn.ModuleList", cast("nn.Module", model.model).layers)
    between = [child for layer in layers for name, child in layer.named_children() if name != "self_attn"]
    for module in between:
        module.compile(backend=backend, dynamic=True)
    return len(between)
