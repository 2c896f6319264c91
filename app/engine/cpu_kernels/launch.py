"""Runs a compiled function on torch's own OpenMP threads. A second pool of threads would compete with them for the
cores: OpenMP's threads spin for a while after each of torch's operations."""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir
from numba import carray, cfunc, types
from numba.extending import intrinsic

_INT64 = ctypes.c_int64
_HEAD = 3  # before a task's own arguments: items taken, items in all, workers counted
_MOST = 16  # numbers in a block


class KernelError(Exception):
    """This type has no kernels, or torch uses threads that the kernels cannot share."""


class Kernel:
    """`task(arguments, item, worker)`, compiled by numba, for every item from 0 on, spread over torch's threads.

    Arguments are integers: sizes, and addresses of memory that outlives the call. Each worker takes the next item
    when it is done with one. Raises KernelError.
    """

    def __init__(self, task: Callable[..., None]) -> None:
        self._parallel = _openmp().GOMP_parallel
        self._parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
        self._parallel.restype = None
        self._compiled = _with_workers(task)  # keeps the machine code alive

    def __call__(self, items: int, *arguments: int) -> None:
        block = (_INT64 * (_HEAD + len(arguments)))(0, items, 0, *arguments)
        self._parallel(self._compiled.address, ctypes.addressof(block), torch.get_num_threads(), 0)


def _with_workers(task: Callable[..., None]) -> Any:
    """The C function that each thread runs: `void work(int64_t *block)`."""

    @cfunc(types.void(types.CPointer(types.int64)))
    def work(block: Any) -> None:
        items = carray(block, _HEAD)[1]
        arguments = carray(block, _MOST)[_HEAD:]  # the task knows how many there are
        worker = _take(block, 2)
        item = _take(block, 0)
        while item < items:
            task(arguments, item, worker)
            item = _take(block, 0)

    return work


@intrinsic
def _take(_context: Any, _counters: Any, _index: Any) -> Any:
    """The counter's value, which is then one higher: an atomic addition."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        counter = builder.gep(arguments[0], [arguments[1]])
        return builder.atomic_rmw("add", counter, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.CPointer(types.int64), types.int64), build


def _openmp() -> ctypes.CDLL:
    """GNU's OpenMP library, as torch ships and uses it."""
    for path in sorted((Path(torch.__file__).parent / "lib").glob("libgomp*")):
        return ctypes.CDLL(str(path))
    raise KernelError("torch has no libgomp")
