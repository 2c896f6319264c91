"""The kernels of one kind of layer, called with tensors."""

import ctypes
from dataclasses import dataclass
from functools import cache as once

import torch
from torch import Tensor

from app.engine.attention.slots import attend_span
from app.engine.kv.cache import SlotCache
from app.engine.kv.layout import Rows
from app.engine.layers.cpu_kernels.attention import attention
from app.engine.layers.cpu_kernels.numbers import format_of
from app.engine.layers.cpu_kernels.rotation import rotation
from app.engine.layers.cpu_kernels.rows import gated_silu, root_mean_square


@dataclass(frozen=True, slots=True)
class Shape:
    """What the compiled code is made for. `width` is the hidden state's, `inner` the gate's."""

    dtype: torch.dtype
    heads: int
    key_heads: int
    dim: int
    scaling: float
    width: int
    inner: int
    epsilon: float


@once
def kernels_for(shape: Shape) -> "LayerKernels":
    """Compiled once in a process, in about three seconds. Raises KernelError."""
    return LayerKernels(shape)


class LayerKernels:
    """Tensors are contiguous, on the CPU, of the shape's type."""

    def __init__(self, shape: Shape) -> None:
        numbers = format_of(shape.dtype)
        self._shape = shape
        self._attend = attention(numbers, shape.heads, shape.key_heads, shape.dim, shape.scaling)
        self._rotate = rotation(numbers, shape.heads, shape.key_heads, shape.dim)
        self._norm = root_mean_square(numbers, shape.width, shape.epsilon)
        self._gate = gated_silu(numbers, shape.inner)

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

    def attend(self, states: Tensor, rotary: tuple[Tensor, Tensor], cache: SlotCache, layer_idx: int) -> Tensor:
        """Store the step's keys and values, then every row's attention over its slot.

        `states` is `[1, rows, (heads + 2 * key_heads) * dim]`, not rotated; cosines and sines are `[1, rows, dim]`;
        the result is `[1, rows, heads * dim]`.
        """
        layout, shape = cache.layouts[states.device], self._shape
        rows = layout.rows
        if rows is None:
            raise RuntimeError("the step was not laid out for kernels")
        count = states.shape[1]
        queries = states.new_empty(count, shape.heads, shape.dim)
        output = torch.empty_like(queries)
        shelves = self._shelves(states, rows, cache, layer_idx)
        where = (rows.table.data_ptr(), ctypes.addressof(shelves))
        cosines, sines = rotary
        self._rotate(count, states.data_ptr(), queries.data_ptr(), cosines.data_ptr(), sines.data_ptr(), *where)
        group = shape.heads // shape.key_heads
        scratch = torch.empty(torch.get_num_threads(), group, rows.longest)
        pointers = (queries.data_ptr(), output.data_ptr(), *where, scratch.data_ptr(), rows.longest)
        self._attend(count * shape.key_heads, *pointers)
        for span in layout.spans:
            query = queries[span.tokens].transpose(0, 1).unsqueeze(0)
            output[span.tokens] = attend_span(cache, span, layer_idx, query, shape.scaling)[0]
        return output.view(1, count, -1)

    def _shelves(
        self, states: Tensor, rows: Rows, cache: SlotCache, layer_idx: int
    ) -> "ctypes.Array[ctypes.c_int64]":
        """`[shelves, 3]`: where this layer's keys and values lie, and the capacity of a slot."""
        like = states.new_empty(1, self._shape.key_heads, 0, self._shape.dim)
        table: list[int] = []
        for capacity, written in rows.shelves:
            keys, values = cache.buffers(layer_idx, capacity, written, like)
            table += (keys.data_ptr(), values.data_ptr(), capacity)
        return (ctypes.c_int64 * len(table))(*table)
