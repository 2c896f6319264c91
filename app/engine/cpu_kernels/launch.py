"""Runs a compiled function on torch's own OpenMP threads. A second pool of threads would compete with them for the
cores: OpenMP's threads spin for a while after each of torch's operations."""

import ctypes
from pathlib import Path

import torch

from app.engine.cpu_kernels.block import HEAD
from app.engine.cpu_kernels.errors import KernelError
from app.engine.cpu_kernels.loaded import MachineCode

_INT64 = ctypes.c_int64


class Kernel:
    """`task(arguments, item, worker)`, in machine code, for every item from 0 on, spread over torch's threads.

    Arguments are integers: sizes, and addresses of memory that outlives the call. Each worker takes the next item
    when it is done with one. Raises KernelError.
    """

    def __init__(self, code: MachineCode, name: str) -> None:
        self._parallel = openmp().GOMP_parallel
        self._parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        self._parallel.restype = None
        self._code = code  # keeps it in memory
        self._address = code.address(name)

    def __call__(self, items: int, *arguments: int) -> None:
        block = (_INT64 * (HEAD + len(arguments)))(0, items, 0, *arguments)
        self._parallel(self._address, ctypes.addressof(block), torch.get_num_threads(), 0)


def openmp() -> ctypes.CDLL:
    """GNU's OpenMP library, as torch ships and uses it. Raises KernelError."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        return ctypes.CDLL(str(path))
    raise KernelError("torch has no libgomp")
