"""What the tests of Triton kernels share: interpreted on a CPU, compiled on a GPU."""

import torch

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
PAGE = 32


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    """The same numbers in every run and on every device."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)
