"""The plan of the backends over pages: block tables as index tensors. A device gets a step's plan in one copy."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, groupby

import torch
from torch import Tensor

from app.engine.attention.step import Row, Step
from app.engine.transfer import send


@dataclass(frozen=True, slots=True)
class Group:
    """Decoding rows whose contexts need about as many pages (at most twice as many as the shortest), or all rows."""

    rows: slice  # of the step
    tables: Tensor  # [n, pages]; after a sequence's end any page of the pool
    lengths: Tensor  # [n]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A prompt chunk: its rows see all tokens before `start`, and of the chunk those up to themselves."""

    rows: slice
    table: Tensor  # [pages]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PagedPlan:
    position_ids: Tensor  # [1, tokens]
    slots: Tensor  # [tokens]
    groups: tuple[Group, ...]
    chunks: tuple[Chunk, ...]


def plan_pages(step: Step, page_size: int, device: torch.device, *, one_group: bool = False) -> PagedPlan:
    """With `one_group` all decoding rows are one group: for kernels that read no more than each row's own pages."""
    groups = [list(step.decode)] if one_group and step.decode else _by_length(step, page_size)
    group_tables = [_tables(rows, page_size) for rows in groups]
    chunk_tables = [span.table[: -(-span.end // page_size)] for span in step.spans]
    lengths = [row.length for row in step.decode]
    positions, slots, lengths_, *tables = send(
        device,
        [step.positions, step.slots, lengths, *map(_flat, group_tables), *chunk_tables],
    )
    ends = list(accumulate(map(len, groups)))
    rows = [slice(end - len(group), end) for group, end in zip(groups, ends, strict=True)]
    return PagedPlan(
        position_ids=positions.unsqueeze(0),
        slots=slots,
        groups=tuple(
            Group(place, table.view(place.stop - place.start, -1), lengths_[place])
            for place, table in zip(rows, tables, strict=False)
        ),
        chunks=tuple(
            Chunk(span.rows, table, span.start, span.end)
            for span, table in zip(step.spans, tables[len(groups) :], strict=True)
        ),
    )


def _flat(parts: Iterable[list[int]]) -> list[int]:
    return [number for part in parts for number in part]


def _by_length(step: Step, page_size: int) -> list[list[Row]]:
    doublings = groupby(step.decode, key=lambda row: (-(-row.length // page_size) - 1).bit_length())
    return [list(rows) for _, rows in doublings]


def _tables(rows: list[Row], page_size: int) -> list[list[int]]:
    """Tables of one length, that of the longest row, which is the last."""
    pages = -(-rows[-1].length // page_size)
    return [row.table[:pages] + row.table[:1] * (pages - len(row.table)) for row in rows]
