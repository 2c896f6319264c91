"""The integers of a decode step at fixed addresses: a captured step reads them there.

One buffer is pinned on the host and has a copy on the device. For a step of `count` rows it holds their tokens,
positions, slots and lengths, and then their block tables page by page. So what a step needs is one piece
from the beginning of the buffer, as long as its longest context, and goes to the device in one copy.
"""

import torch
from torch import Tensor

from app.engine.attention.paged_plan import Group, PagedPlan
from app.engine.attention.step import Step

FIELDS = 4
"""Tokens, positions, slots, lengths."""


class StepInputs:
    """For steps of at most `rows` rows, each with at most `pages` pages of `page_size` tokens. Rows without a
    sequence write to the page `scratch` and attend to nothing."""

    def __init__(self, rows: int, pages: int, page_size: int, scratch: int, device: torch.device) -> None:
        self.pages = pages
        self._page_size = page_size
        self._unused = torch.tensor([[0], [0], [scratch * page_size], [0]]).numpy()
        on_gpu = device.type == "cuda"
        self._host = torch.zeros(rows * (FIELDS + pages), dtype=torch.long, pin_memory=on_gpu)
        self._numbers = self._host.numpy()
        self._device = torch.zeros_like(self._host, device=device)
        self._copied = torch.cuda.Event() if on_gpu else None  # type: ignore[no-untyped-call]  # torch's own

    def views(self, count: int) -> tuple[Tensor, PagedPlan]:
        """A step's tokens `[1, count]` and its plan on the device, which change with every `fill`."""
        fields = self._device[: FIELDS * count].view(FIELDS, count)
        tables = self._device[FIELDS * count : (FIELDS + self.pages) * count].view(self.pages, count).T
        return fields[:1], PagedPlan(
            position_ids=fields[1:2],
            slots=fields[2],
            groups=(Group(slice(0, count), tables, fields[3]),),
            chunks=(),
        )

    def fill(self, step: Step, count: int) -> None:
        """The rows of a step without prompt chunks, as the first of `count`. The host does not wait for the copy."""
        used = len(step.decode)
        if self._copied is not None:
            self._copied.synchronize()  # the copy of the last step reads the same memory; it has long ended
        fields = self._numbers[: FIELDS * count].reshape(FIELDS, count)
        fields[:, :used] = step.tokens, step.positions, step.slots, [row.length for row in step.decode]
        fields[:, used:] = self._unused
        lengths = [-(-row.length // self._page_size) for row in step.decode]
        longest = max(lengths, default=0)
        tables = self._numbers[FIELDS * count : (FIELDS + longest) * count].reshape(longest, count)
        for place, (row, length) in enumerate(zip(step.decode, lengths, strict=True)):
            tables[:length, place] = row.table[:length]
        end = (FIELDS + longest) * count
        self._device[:end].copy_(self._host[:end], non_blocking=True)
        if self._copied is not None:
            self._copied.record(torch.cuda.current_stream(self._device.device))  # the current device may be another
