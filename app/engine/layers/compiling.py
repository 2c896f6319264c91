"""`COMPILE=layers`: what lies between the attentions, through torch.compile. For GPUs; not measured here.

Compiled are the norms and the MLP or experts of every layer. Attention stays as it is: it works on the slots, whose
number and lengths change at every step, and a compiled form would be made anew for each. The number of tokens is left
open in the compiled code for the same reason.
"""

from collections.abc import Callable
from typing import Any, cast

from torch import nn

Backend = str | Callable[..., Any]


def compile_layers(model: nn.Module, backend: Backend = "inductor") -> int:
    """Mark the modules for compilation, in place; it happens at their first calls, in the warm-up: how many."""
    layers = cast("nn.ModuleList", cast("nn.Module", model.model).layers)
    between = [child for layer in layers for name, child in layer.named_children() if name != "self_attn"]
    for module in between:
        module.compile(backend=backend, dynamic=True)
    return len(between)
