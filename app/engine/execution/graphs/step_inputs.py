"""The integers of a decode step at fixed addresses: a captured step reads them there.

One buffer is pinned on the host and has a copy on each device. For a step of `count` rows it holds their tokens,
positions, slots and lengths, and then their block tables page by page. So what a step needs is one piece
from the beginning of the buffer, as long as its longest context, and goes to a device in one copy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from app.engine.attention.paged_plan import Group, PagedPlan
from app.engine.attention.step import Step

FIELDS = 4
"""Tokens, positions, slots, lengths."""


class StepInputs:
    """For steps of at most `rows` rows, each with at most `pages` pages of `page_size` tokens. Rows without a
    sequence write to the page `scratch` and attend to nothing."""

    def __init__(self, rows: int, pages: int, page_size: int, scratch: int, devices: Sequence[torch.device]) -> None:
        self.pages = pages
        self._page_size = page_size
        self._unused = torch.tensor([[0], [0], [scratch * page_size], [0]]).numpy()
        pinned = any(device.type == "cuda" for device in devices)
        self._host = torch.zeros(rows * (FIELDS + pages), dtype=torch.long, pin_memory=pinned)
        self._numbers = self._host.numpy()
        self._copies = {device: _Copy(self._host, device) for device in devices}

    def tokens(self, count: int, device: torch.device) -> Tensor:
        """A step's tokens `[1, count]` on a device, which change with every `fill`, as its plan does."""
        return self._copies[device].numbers[:count].unsqueeze(0)

    def plan(self, count: int, device: torch.device) -> PagedPlan:
        numbers = self._copies[device].numbers
        fields = numbers[: FIELDS * count].view(FIELDS, count)
        tables = numbers[FIELDS * count : (FIELDS + self.pages) * count].view(self.pages, count).T
        return PagedPlan(
            position_ids=fields[1:2],
            slots=fields[2],
            groups=(Group(slice(0, count), tables, fields[3]),),
            chunks=(),
        )

    def fill(self, step: Step, count: int) -> None:
        """The rows of a step without prompt chunks, as the first of `count`. The host waits for no copy."""
        used = len(step.decode)
        for copy in self._copies.values():
            copy.wait()
        fields = self._numbers[: FIELDS * count].reshape(FIELDS, count)
        fields[:, :used] = step.tokens, step.positions, step.slots, [row.length for row in step.decode]
        fields[:, used:] = self._unused
        lengths = [-(-row.length // self._page_size) for row in step.decode]
        longest = max(lengths, default=0)
        tables = self._numbers[FIELDS * count : (FIELDS + longest) * count].reshape(longest, count)
        for place, (row, length) in enumerate(zip(step.decode, lengths, strict=True)):
            tables[:length, place] = row.table[:length]
        for copy in self._copies.values():
            copy.send((FIELDS + longest) * count)


class _Copy:
    """The numbers on one device."""

    def __init__(self, host: Tensor, device: torch.device) -> None:
        self.numbers = torch.zeros_like(host, device=device)
        self._host = host
        self._sent = torch.cuda.Event() if device.type == "cuda" else None  # type: ignore[no-untyped-call]  # torch's own

    def wait(self) -> None:
        """Until the last copy has read the host's memory, which it has long done."""
        if self._sent is not None and not self._sent.query():  # type: ignore[no-untyped-call]  # torch's own
            self._sent.synchronize()

    def send(self, count: int) -> None:
        self.numbers[:count].copy_(self._host[:count], non_blocking=True)
        if self._sent is not None:
            self._sent.record(torch.cuda.current_stream(self.numbers.device))  # the current device may be another
