"""What a tensor takes of the machine's memory, by the system."""

import ctypes
import mmap
from pathlib import Path

import pytest
import torch

_HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")

by_small_pages = pytest.mark.skipif(
    _HUGE.exists() and "[always]" in _HUGE.read_text(), reason="this system gives memory in huge pages unasked"
)
"""For tests that count what is resident."""


def resident(buffer: torch.Tensor) -> int:
    """Bytes of the buffer that take memory, in whole pages of the system's."""
    begin = buffer.data_ptr() // mmap.PAGESIZE * mmap.PAGESIZE
    length = buffer.data_ptr() + buffer.nbytes - begin
    marks = (ctypes.c_ubyte * -(-length // mmap.PAGESIZE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(begin), ctypes.c_size_t(length), marks) == 0
    return sum(mark & 1 for mark in marks) * mmap.PAGESIZE
