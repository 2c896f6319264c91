"""Linear layers that read the same rows, as one product: one launch in place of several."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


def join(*parts: nn.Linear, beside: Sequence[nn.Linear] = ()) -> Tensor:
    """The weights of several layers without biases, one below the other. Theirs become views of the joined one.

    From a GPU they go through the host, so that the joined one finds their old places free. transformers loads all
    weights into one block of torch's allocator, by their names; a hole that is too small for it would stay one, and
    never become KV memory. `beside` are layers whose weights lie between theirs: these move too, so that the places
    are one. Raises torch.OutOfMemoryError; the layers then are as they were.
    """
    device = parts[0].weight.device
    host = torch.device("cpu") if device.type == "cuda" else device
    moved = [*parts, *beside]
    weights = [part.weight.detach().to(host) for part in moved]
    for part in moved:
        part.weight.data = part.weight.new_empty(0)
    try:
        joined = torch.cat(weights[: len(parts)]).to(device)
    except torch.OutOfMemoryError:
        _put(moved, [weight.to(device) for weight in weights])
        raise
    _put(parts, torch.split(joined, [len(weight) for weight in weights[: len(parts)]]))
    _put(beside, [weight.to(device) for weight in weights[len(parts) :]])
    return joined


def _put(layers: Iterable[nn.Linear], weights: Iterable[Tensor]) -> None:
    for layer, weight in zip(layers, weights, strict=True):
        layer.weight.data = weight
