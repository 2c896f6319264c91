"""What the host knows of a step, onto a device.

To a GPU everything goes from pinned memory, and the host does not wait: torch keeps that memory until it was read. A
tensor that is made on the GPU from a list would wait for all that the GPU has still to do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def send(device: torch.device, parts: Sequence[Sequence[int]]) -> list[Tensor]:
    """The integers of each part, int64, as views of one tensor: one copy."""
    return _send_numbers(device, parts, torch.long)


def send_floats(device: torch.device, parts: Sequence[Sequence[float]]) -> list[Tensor]:
    """The numbers of each part, float32, likewise."""
    return _send_numbers(device, parts, torch.float32)


def send_tensor(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor of the host's own memory, of any type."""
    return _send(tensor.pin_memory() if _pinned(device) else tensor, device)


def _send_numbers(device: torch.device, parts: Sequence[Sequence[float]], dtype: torch.dtype) -> list[Tensor]:
    joined = [number for part in parts for number in part]
    sent = _send(torch.tensor(joined, dtype=dtype, pin_memory=_pinned(device)), device)
    return list(torch.split(sent, [len(part) for part in parts]))


def _send(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, non_blocking=True)


def _pinned(device: torch.device) -> bool:
    return device.type == "cuda"
