"""Reads and writes elements in memory as float32 numbers. numba has no bfloat16: here it is 16 bits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

Task = Callable[..., None]
"""`task(arguments, item, worker)`, compiled by numba: what is done for one item."""

FAST = {"nsz", "arcp", "contract", "afn", "reassoc"}
"""For `njit(fastmath=...)`: LLVM's flags without those that let it assume that no number is NaN or infinite. A wrong
key must not give a finite answer."""

_WORD = ir.IntType(32)


@dataclass(frozen=True)
class Format:
    """A type in memory. The functions are numba's, for compiled code."""

    bytes: int
    at: Callable[[int], Any]  # a pointer to the elements at an address
    read: Callable[[Any], float]
    write: Callable[[float], Any]
    prefetch: Callable[[Any, int], None]


def format_of(dtype: str) -> Format:
    """Raises ValueError for a type without kernels."""
    if dtype == "float32":
        return Format(4, pointer_to(types.float32), _same, _same, prefetch_of(types.float32))
    if dtype == "bfloat16":
        return Format(2, pointer_to(types.uint16), _widened, _narrowed, prefetch_of(types.uint16))
    raise ValueError(f"{dtype} has no kernels")


def pointer_to(element: Any) -> Callable[[int], Any]:
    """A compiled function from an address to a pointer, which numba's `carray` makes an array of."""

    @intrinsic
    def pointer(_context: Any, _address: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(element)))

        return types.CPointer(element)(types.int64), build

    return pointer


@intrinsic
def as_bits(_context: Any, _number: Any) -> Any:
    """The 32 bits of a float32."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], _WORD)

    return types.uint32(types.float32), build


@intrinsic
def from_bits(_context: Any, _bits: Any) -> Any:
    """The float32 of 32 bits."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), build


@njit(inline="always")
def _same(number: Any) -> Any:
    return number


@njit(inline="always")
def _widened(bits: Any) -> Any:
    """bfloat16 is the upper half of a float32."""
    return from_bits(np.uint32(bits) << np.uint32(16))


@njit(inline="always")
def _narrowed(number: Any) -> Any:
    """Rounded to the nearest, ties to even, as torch does. NaN is not kept: it may become an infinity."""
    bits = as_bits(number)
    return np.uint16((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16))


@njit(fastmath=FAST, inline="always")
def exponential(x: Any) -> Any:
    """exp(x) within 2e-7, as one polynomial, so that loops over it become vector instructions. Of NaN it is NaN.

    x is split into n * ln 2 and a rest, as in the Cephes library, whose constants these are.
    """
    least, most = np.float32(-87.0), np.float32(88.0)
    x = least if x < least else x  # noqa: FURB136  # so NaN stays; numba's `max` and `min` do not say what they do
    x = most if x > most else x  # noqa: FURB136  # likewise
    whole = np.int32(np.int32(x * np.float32(1.44269504) + np.float32(128.5)) - np.int32(128))  # to the nearest
    n = np.float32(whole)
    rest = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    power = np.float32(1.9875691500e-4)
    power = power * rest + np.float32(1.3981999507e-3)
    power = power * rest + np.float32(8.3334519073e-3)
    power = power * rest + np.float32(4.1665795894e-2)
    power = power * rest + np.float32(1.6666665459e-1)
    power = power * rest + np.float32(5.0000001201e-1)
    power = power * rest * rest + rest + np.float32(1)
    return power * from_bits(np.uint32(whole + np.int32(127)) << np.uint32(23))


def prefetch_of(element: Any) -> Callable[[Any, int], None]:
    """A compiled function that asks for the cache line of one element, without waiting for it."""

    @intrinsic
    def prefetch(_context: Any, _array: Any, _offset: Any) -> Any:
        def build(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), ir.IntType(8).as_pointer())
            flag = ir.IntType(32)
            declared = cgutils.get_or_insert_function(
                builder.module,
                ir.FunctionType(ir.VoidType(), [address.type, flag, flag, flag]),
                "llvm.prefetch.p0i8",
            )
            builder.call(declared, [address, flag(0), flag(3), flag(1)])
            return context.get_dummy_value()

        return types.void(types.CPointer(element), types.int64), build

    return prefetch
