"""Log-probabilities of the model's own distribution, before any rule or temperature."""

from collections.abc import Iterator

import torch
from torch import Tensor

from app.contract.events import TokenEvent


def picked(logits: Tensor, tokens: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Of each row of `logits` `[n, vocabulary]`, any float type: float32 values `[n, 1 + most]`, those of `tokens`
    `[n]` and of the `most` most likely ones, and the ids of these, `[n, most]`."""
    logprobs = logits.float().log_softmax(dim=-1)
    best = logprobs.topk(min(most, logits.shape[-1]), dim=-1)
    return torch.cat((logprobs.gather(-1, tokens.unsqueeze(-1)), best.values), dim=-1), best.indices


def with_logprobs(tokens: list[int], values: Tensor, ids: Tensor) -> Iterator[TokenEvent]:
    """One for each row of what `picked` gave. Waits for the device, once: a float64 holds both kinds of number."""
    most = ids.shape[-1]
    for token, (own, *rest) in zip(tokens, torch.cat((values.double(), ids.double()), dim=-1).tolist(), strict=True):
        yield TokenEvent(token, own, tuple(zip(map(int, rest[most:]), rest[:most], strict=True)))
