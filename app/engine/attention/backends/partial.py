"""Attention over the context block by block: a step's scratch memory does not grow with the context.

softmax(s) · v over all tokens is the mean of the parts' results, weighted by the sum of exp(s) that each part saw. A
part's result comes with the logarithm of that sum (FlashAttention, arXiv 2205.14135, section 3.1).
"""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]
"""`[n, h, q, v]`, and the logarithm of the sum of exp(scores), `[n, h, q]` float32; -inf where nothing was seen."""

BLOCK_SCORES = 2**24
"""Scores that one block computes at most, 64 MB in float32."""

BLOCK_NUMBERS = 2**26
"""Numbers of keys and values that one block copies out of its pages at most, 128 MB in 16 bits."""


def blocks(pages: int, page_size: int, *, scores: int, numbers: int) -> Iterator[tuple[int, int]]:
    """(first, last + 1) page of each block; `scores` and `numbers` are what each token of a page adds."""
    step = max(1, min(BLOCK_SCORES // max(1, scores), BLOCK_NUMBERS // numbers) // page_size)
    for first in range(0, pages, step):
        yield first, min(pages, first + step)


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


def merge(parts: Iterable[Part]) -> Tensor:
    """The attention over all parts together, `[n, h, q, v]`. Every row must have seen a token in the first part.

    Each part is added as it comes: a list of them would grow with the context.
    """
    following = iter(parts)
    output, lse = next(following)
    dtype = output.dtype
    for part, other in following:
        total = torch.logaddexp(lse, other)
        output = output * (lse - total).exp_().unsqueeze(-1) + part * (other - total).exp_().unsqueeze(-1)
        lse = total
    return output.to(dtype)


def hidden_in_chunk(queries: int, device: torch.device) -> Tensor | None:
    """The tokens of a chunk that each of its rows must not see, `[q, q]` bool; None for one row."""
    if queries == 1:
        return None
    return torch.ones(queries, queries, dtype=torch.bool, device=device).triu_(1)
