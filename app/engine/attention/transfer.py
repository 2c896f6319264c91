"""Integers of a step onto a device, in one copy."""

from collections.abc import Sequence

import torch
from torch import Tensor


def send(device: torch.device, parts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The numbers of each part, int64, as views of one tensor. To a GPU they go from pinned memory, and the host does
    not wait: torch keeps that memory until it was read."""
    pinned = device.type == "cuda"
    joined = torch.tensor([number for part in parts for number in part], dtype=torch.long, pin_memory=pinned)
    return list(torch.split(joined.to(device, non_blocking=pinned), [len(part) for part in parts]))
