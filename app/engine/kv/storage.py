"""Memory for pages: taken once, and on a CPU given back by the page, without a copy."""

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

_OWN_PAGES = 2**20
"""Bytes from which a buffer on a CPU is address space of its own, which the system fills when it is first touched."""


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because what was never written may be gathered: it must be finite."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < _OWN_PAGES:
        return torch.zeros(*shape, dtype=dtype, device=device)
    space = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(space, dtype=dtype).view(*shape)
