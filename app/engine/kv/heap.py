"""Memory of the machine, where the KV cache lies when there is no GPU."""

import ctypes
import math
import mmap
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

OWN_PAGES = 2**20
"""Bytes from which a buffer gets pages of its own: below that, rounding up to whole pages would be felt."""


def zeros(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Zeros in pages of their own, which are there from the start, and are given back at once.

    Pages that come when they are first touched would make every step a little slower, and the process grow for
    thousands of requests: as long as some slot is still filled further than ever before.
    The KV cache's buffers grow by being replaced. In the heap the smaller ones left holes that nothing else fitted:
    after a few hundred requests 900 MB were held for nobody. To give all large blocks pages of their own would cost
    every step new pages for its activations.
    """
    size = math.prod(shape) * dtype.itemsize
    if size < OWN_PAGES:
        return torch.zeros(*shape, dtype=dtype)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE)
    return torch.frombuffer(pages, dtype=dtype).view(*shape)


def trim() -> None:
    """Give what lies unused in the C library's heap back to the system. glibc only; elsewhere nothing happens."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
