"""Linear layers that read the same rows, as one product: one launch in place of several."""

import torch
from torch import Tensor, nn


def join(*parts: nn.Linear) -> Tensor:
    """The weights of several layers without biases, one below the other. Theirs become views of the joined one, so
    memory has no second copy once this returns."""
    joined = torch.cat([part.weight for part in parts])
    for part, weight in zip(parts, torch.split(joined, [len(part.weight) for part in parts]), strict=True):
        part.weight.data = weight
    return joined
