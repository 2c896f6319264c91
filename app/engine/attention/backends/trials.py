"""What the kernels for GPUs are tried with at the start: random pages and rows, and plain torch's rotations."""

from collections.abc import Sequence

import torch
from torch import Tensor

from app.engine.attention.paged_plan import Group

PAGES = 16


def group_of(page_size: int, rows: int, device: torch.device) -> Group:
    """Rows of four pages, full but for one token, and with lengths around a page's."""
    lengths = torch.tensor([4 * page_size - 1, 1, page_size, page_size + 1])
    tables = torch.randperm(PAGES, generator=torch.Generator().manual_seed(0)).view(len(lengths), -1)
    repeated = torch.arange(rows) % len(lengths)
    return Group(rows=slice(0, rows), tables=tables[repeated].to(device), lengths=lengths[repeated].to(device))


def slots_of(page_size: int, device: torch.device) -> Tensor:
    """Where four rows are stored: at both ends of a page, and within one."""
    return torch.tensor([0, page_size - 1, page_size, 3 * page_size + 5], device=device)


def random(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).to(like)


def rotated_neighbours(numbers: Tensor, rotation: Tensor) -> Tensor:
    """DeepSeek's: numbers 2i and 2i + 1 are a complex number, and `rotation` is its factor."""
    pairs = torch.view_as_complex(numbers.float().reshape(*numbers.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(numbers.dtype)


def rotated_halves(numbers: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Llama's: numbers i and i + d / 2 are a complex number. `[t, heads, d]`, with `cos` and `sin` `[t, d]`."""
    low, high = numbers.float().chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1)
    return (numbers.float() * cos.unsqueeze(1) + turned * sin.unsqueeze(1)).to(numbers.dtype)


def distance(one: Tensor, other: Tensor) -> float:
    """The largest difference of a row, by its norm. NaN where a number is."""
    one, other = one.float(), other.float()
    return float(((one - other).norm(dim=-1) / other.norm(dim=-1)).max())
