"""Attention of a fused Llama on a CPU: the compiled kernels read block tables, so nothing is gathered.

Prompt chunks that attend to more than LONG_CHUNK tokens use matrix products over all their rows instead.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from app.engine.attention.backends.heads import HeadPages, HeadsBackend
from app.engine.attention.paged_plan import Chunk
from app.engine.attention.step import Span, Step
from app.engine.cpu_kernels.layer import LayerKernels
from app.engine.kv.shape import HeadsShape

LONG_CHUNK = 256
"""Tokens that a prompt chunk attends to, from which matrix products over all its rows beat a kernel that takes each
row by itself (docs/decisions/0004-compiled-kernels.md)."""


@dataclass(frozen=True, slots=True)
class RowsPlan:
    """Every row of a step by itself. All tensors are int64."""

    position_ids: Tensor  # [1, tokens]
    rows: Tensor  # [tokens, 4]: sequence, slot, position, attended length; 0 in a long chunk
    tables: Tensor  # [sequences, pages]
    longest: int  # attended length of a row, at least 1
    chunks: tuple[Chunk, ...]  # the long ones


class CompiledBackend(HeadsBackend):
    """See `app.engine.attention.protocol.Backend`. Its layers call `attend_states`, which also writes."""

    name = "compiled kernels"

    def __init__(self, shape: HeadsShape, page_size: int, dtype: torch.dtype, kernels: LayerKernels) -> None:
        super().__init__(shape, page_size, dtype)
        self._kernels = kernels

    def plan(self, step: Step, _device: torch.device) -> RowsPlan:  # type: ignore[override]  # another plan
        lengths = [row.length for row in step.decode]
        owners = list(range(len(step.decode)))
        long = [span for span in step.spans if _is_long(span)]
        for number, span in enumerate(step.spans, start=len(step.decode)):
            count = span.end - span.start
            lengths += [0] * count if _is_long(span) else range(span.start + 1, span.end + 1)
            owners += [number] * count
        rows = torch.tensor([owners, step.slots, step.positions, lengths]).T.contiguous()
        tables = [row.table for row in step.decode] + [span.table for span in step.spans]
        most = max(map(len, tables))
        return RowsPlan(
            position_ids=torch.tensor([step.positions]),
            rows=rows,
            tables=torch.tensor([table + table[:1] * (most - len(table)) for table in tables]),
            longest=max(1, *lengths),
            chunks=tuple(
                Chunk(span.rows, torch.tensor(span.table[: -(-span.end // self._size)]), span.start, span.end)
                for span in long
            ),
        )

    def attend_states(
        self, plan: RowsPlan, storage: HeadPages, states: Tensor, rotary: tuple[Tensor, Tensor], scaling: float
    ) -> Tensor:
        """Store the step's keys and values, and attend: `states` as in `LayerKernels.rotate`."""
        pages = (storage.keys, storage.values)
        queries = self._kernels.rotate(states, rotary, plan.rows, pages)
        output = self._kernels.attend(queries, plan.rows, plan.tables, plan.longest, pages)
        for chunk in plan.chunks:
            output[chunk.rows] = self.chunk(chunk, storage, queries[chunk.rows].transpose(0, 1), scaling)
        return output.view(1, len(output), -1)


def _is_long(span: Span) -> bool:
    return span.end - span.start > 1 and span.end > LONG_CHUNK
