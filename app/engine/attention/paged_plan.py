"""The plan of the portable backends: block tables as index tensors, for gathering pages."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from app.engine.attention.step import Row, Step


@dataclass(frozen=True, slots=True)
class Group:
    """Decoding rows whose contexts need about as many pages: at most twice as many as the shortest of them."""

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


def plan_pages(step: Step, page_size: int, device: torch.device) -> PagedPlan:
    return PagedPlan(
        position_ids=torch.tensor([step.positions]).to(device),
        slots=torch.tensor(step.slots).to(device),
        groups=tuple(_groups(step, page_size, device)),
        chunks=tuple(
            Chunk(span.rows, torch.tensor(span.table[: -(-span.end // page_size)]).to(device), span.start, span.end)
            for span in step.spans
        ),
    )


def _groups(step: Step, page_size: int, device: torch.device) -> Iterator[Group]:
    offset = 0
    for _, members in groupby(step.decode, key=lambda row: (-(-row.length // page_size) - 1).bit_length()):
        rows = list(members)
        yield _group(rows, offset, page_size, device)
        offset += len(rows)


def _group(rows: list[Row], offset: int, page_size: int, device: torch.device) -> Group:
    longest = rows[-1].length  # they are ordered by length
    pages = -(-longest // page_size)
    tables = [row.table[:pages] + row.table[:1] * (pages - len(row.table)) for row in rows]
    return Group(
        rows=slice(offset, offset + len(rows)),
        tables=torch.tensor(tables).to(device),
        lengths=torch.tensor([row.length for row in rows]).to(device),
    )
