"""Memory for pages, reserved once. On a CPU a page takes memory only once tokens were written to it."""

import math
import mmap
from collections.abc import Sequence

import torch
from torch import Tensor

_OWN_PAGES = 2**20
"""Bytes from which a buffer on a CPU gets address space of its own. The system fills it when it is first used."""


def zeros(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros: unwritten tokens may be gathered as well, and must be finite."""
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < _OWN_PAGES:
        return torch.zeros(*shape, dtype=dtype, device=device)
    space = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(space, dtype=dtype).view(*shape)
