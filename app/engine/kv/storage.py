"""Memory for pages, reserved once. On a CPU it is address space: a page takes memory only once tokens were written to
it, and gives it back to the system without a copy."""

import ctypes
import math
import mmap
from collections.abc import Iterator, Sequence
from functools import cache

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


def discard(buffer: Tensor, pages: Sequence[int]) -> None:
    """Let the system have the memory of these pages of a buffer on the CPU, `[pages, …]`: they are zeros then.

    What shares a page of the system's with another page of the buffer stays as it is. Does nothing on a GPU.
    """
    if buffer.device.type != "cpu":
        return
    page_bytes = buffer[0].nbytes
    for first, last in _runs(sorted(pages)):
        begin = -(-(buffer.data_ptr() + first * page_bytes) // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (buffer.data_ptr() + last * page_bytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if begin < end:
            _library().madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), mmap.MADV_DONTNEED)


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Of ascending numbers: the first of each run, and what follows its last."""
    begin = 0
    for at in range(1, len(numbers) + 1):
        if at == len(numbers) or numbers[at] != numbers[at - 1] + 1:
            yield numbers[begin], numbers[at - 1] + 1
            begin = at


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
