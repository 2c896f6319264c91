"""The C library's heap, on a machine without a GPU."""

import ctypes
from functools import cache


def trim() -> None:
    """Give unused memory of the C library's heap back to the system. Does nothing without glibc."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


@cache
def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None)
    return library if hasattr(library, "malloc_trim") else None
