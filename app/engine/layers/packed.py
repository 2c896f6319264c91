"""Linear layers with weights in oneDNN's own layout, for models that run on the CPU.

`F.linear` reorders the weight into that layout at every call. Doing it once saves a third of a decode step at batch
32, for every model. Measured in docs/decisions/0003-speed-without-a-gpu.md. bfloat16 is packed only where the CPU has
instructions for it.
"""

import torch
from torch import Tensor, nn

EXPECTED_ROWS = 16
"""Rows that oneDNN lays the weight out for; it works for every number."""

LEFT_ALONE = {"kv_b_proj"}
"""The absorbed attention reads this weight itself."""


class PackedLinear(nn.Module):
    """A linear layer's weight, packed. It replaces the layer, and the unpacked weight can be freed."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), EXPECTED_ROWS)  # noqa: SLF001  # torch's only name for it
        self._bias = bias
        self.weight_bytes = weight.numel() * weight.itemsize

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")  # noqa: SLF001  # likewise
        return output


def can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN packs this type here; without AVX-512 instructions for it, it refuses bfloat16."""
    try:
        PackedLinear(torch.zeros(16, 16, dtype=dtype), None)
    except (RuntimeError, AttributeError):  # a type that it refuses, a build without oneDNN
        return False
    return True


def pack(module: nn.Module) -> int:
    """Replace every plain `nn.Linear` below `module`. Returns how many."""
    count = 0
    for name, child in list(module.named_children()):
        if type(child) is nn.Linear and name not in LEFT_ALONE:
            setattr(module, name, PackedLinear(child.weight, child.bias))
            count += 1
        else:
            count += pack(child)
    return count
