"""What happens to each row by itself: normalisation, and the gated activation."""

from typing import Any

import numpy as np
from numba import carray, njit

from app.engine.cpu_kernels.compiler.numbers import Format, Task, exponential


def root_mean_square(numbers: Format, width: int, epsilon: float) -> Task:
    """RMSNorm. Items are rows; arguments are `[rows, width]`, the weight `[width]`, and `[rows, width]` to write."""
    size, at, read, write = numbers.bytes, numbers.at, numbers.read, numbers.write
    tiny = np.float32(epsilon)

    @njit(fastmath=True, error_model="numpy")
    def task(arguments: Any, item: int, _worker: int) -> None:
        x = carray(at(arguments[0] + item * width * size), width)
        weight = carray(at(arguments[1]), width)
        output = carray(at(arguments[2] + item * width * size), width)
        total = np.float32(0)
        for d in range(width):
            number = read(x[d])
            total += number * number
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + tiny)
        for d in range(width):
            output[d] = write(read(x[d]) * scale * read(weight[d]))

    return task


def gated_silu(numbers: Format, width: int) -> Task:
    """`silu(gate) * up`. Items are rows; arguments are `[rows, 2 * width]`, gate before up, and `[rows, width]` to
    write."""
    size, at, read, write = numbers.bytes, numbers.at, numbers.read, numbers.write

    @njit(fastmath=True, error_model="numpy")
    def task(arguments: Any, item: int, _worker: int) -> None:
        gate = carray(at(arguments[0] + item * 2 * width * size), width)
        up = carray(at(arguments[0] + (item * 2 + 1) * width * size), width)
        output = carray(at(arguments[1] + item * width * size), width)
        for d in range(width):
            number = read(gate[d])
            output[d] = write(number / (np.float32(1) + exponential(-number)) * read(up[d]))

    return task
