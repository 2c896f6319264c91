"""The kernels of one kind of layer, called with tensors."""

from functools import cache as once

import torch
from torch import Tensor

from app.engine.cpu_kernels.launch import Kernel
from app.engine.cpu_kernels.loaded import MachineCode
from app.engine.cpu_kernels.shape import Shape

Pair = tuple[Tensor, Tensor]


@once
def kernels_for(shape: Shape) -> "LayerKernels":
    """Compiled once in a process's life. Raises KernelError."""
    return LayerKernels(shape)


class LayerKernels:
    """Tensors are contiguous, on the CPU, of the shape's type."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        code = MachineCode(shape)
        self._attend, self._rotate = Kernel(code, "attend"), Kernel(code, "rotate")
        self._norm, self._gate = Kernel(code, "norm"), Kernel(code, "gate")

    def norm(self, x: Tensor, weight: Tensor) -> Tensor:
        """RMSNorm of `[1, rows, width]`."""
        output = torch.empty_like(x)
        self._norm(x.shape[1], x.data_ptr(), weight.data_ptr(), output.data_ptr())
        return output

    def gate(self, gate_up: Tensor) -> Tensor:
        """`silu(gate) * up` of `[1, rows, 2 * inner]`: `[1, rows, inner]`."""
        rows = gate_up.shape[1]
        output = gate_up.new_empty(1, rows, self._shape.inner)
        self._gate(rows, gate_up.data_ptr(), output.data_ptr())
        return output

    def rotate(self, states: Tensor, rotary: Pair, rows: Tensor, pages: Pair) -> Tensor:
        """Store the step's keys and values in their pages; the rotated queries, `[rows, heads, dim]`.

        `states` is `[1, rows, (heads + 2 * key_heads) * dim]`, not rotated; cosines and sines are `[1, rows, dim]`;
        `rows` and the layer's `pages` of keys and values as in `cpu_kernels.rotation`.
        """
        shape, count = self._shape, states.shape[1]
        queries = states.new_empty(count, shape.heads, shape.dim)
        self._rotate(count, *_addresses(states, queries, *rotary, rows, *pages))
        return queries

    def attend(self, queries: Tensor, rows: Tensor, tables: Tensor, longest: int, pages: Pair) -> Tensor:
        """The attention of every row over its sequence's pages, `[rows, heads, dim]`, as in `cpu_kernels.attention`.

        Rows whose attended length is 0 are left open.
        """
        shape, count = self._shape, queries.shape[0]
        output = torch.empty_like(queries)
        scratch = torch.empty(torch.get_num_threads(), _scratch_floats(shape, longest))
        inputs = _addresses(queries, output, rows, tables)
        memory = _addresses(*pages, scratch)
        self._attend(count * shape.key_heads, *inputs, tables.shape[1], *memory, longest)
        return output


def _scratch_floats(shape: Shape, longest: int) -> int:
    """Of one worker: mixed values, queries with the key worked on, and scores of a group of heads."""
    group = shape.heads // shape.key_heads
    return (2 * group + 1) * shape.dim + group * longest


def _addresses(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]
