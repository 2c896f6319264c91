"""Attention over parts of the context, and their merge: a step's scratch memory does not grow with the context.

softmax(s) · v over all tokens is the mean of the parts' results, weighted by the sum of exp(s) that each part saw. A
part's result comes with the logarithm of that sum (FlashAttention, arXiv 2205.14135, section 3.1).
"""

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]
"""`[n, h, q, v]`, and the logarithm of the sum of exp(scores), `[n, h, q]` float32; -inf where nothing was seen."""


def weigh(scores: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
    """Weights `[…, l]` of float32 scores, and their logarithm of the sum. Changes `scores`.

    `hidden` is bool, true where a token must not be seen. Scores are overwritten there, because NaN plus minus
    infinity is still NaN.
    """
    if hidden is not None:
        scores = scores.masked_fill_(hidden, float("-inf"))
    largest = scores.amax(dim=-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).min)
    weights = scores.sub_(largest).exp_()
    total = weights.sum(dim=-1, keepdim=True)
    lse = (total.log() + largest).squeeze(-1)
    return weights.div_(total.clamp_(min=torch.finfo(torch.float32).tiny)), lse


def merge(parts: list[Part]) -> Tensor:
    """The attention over all parts together, `[n, h, q, v]`."""
    if len(parts) == 1:
        return parts[0][0]
    sums = torch.stack([lse for _, lse in parts])
    shares = sums.softmax(dim=0).unsqueeze(-1)
    output = parts[0][0] * shares[0]
    for (part, _), share in zip(parts[1:], shares[1:], strict=True):
        output = output + part * share
    return output.to(parts[0][0].dtype)


def hidden_in_chunk(queries: int, device: torch.device) -> Tensor | None:
    """The tokens of a chunk that each of its rows must not see, `[q, q]` bool; None for one row."""
    if queries == 1:
        return None
    return torch.ones(queries, queries, dtype=torch.bool, device=device).triu_(1)
