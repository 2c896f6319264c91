"""The C library's heap, where the KV cache lies when there is no GPU. glibc only; elsewhere nothing happens.

glibc raises the size from which a block gets pages of its own, up to 32 MB, whenever such a block is freed.
The cache's buffers grow by being replaced, and smaller ones then leave holes in the heap that nothing else fits:
after a few hundred requests 900 MB were held for nobody.
"""

import ctypes
from functools import cache

_M_MMAP_THRESHOLD = -3  # malloc.h
OWN_PAGES = 4 * 2**20
"""Bytes from which a block gets pages of its own, and gives them back when it is freed. A step's activations are
smaller, so they do not pay for new pages at every step."""


def settle() -> None:
    """Fix the size from which blocks have pages of their own."""
    library = _glibc()
    if library is not None:
        library.mallopt(_M_MMAP_THRESHOLD, OWN_PAGES)


def trim() -> None:
    """Give what lies unused in the heap back to the system."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
