"""Chooses a token from scores: the most likely one, or a draw.

A draw turns one uniform number per sequence into a token by the inverse of the cumulative distribution, so a
sequence's tokens depend on its own scores and its own number alone, and a draw costs no noise over the
vocabulary. Every operation here works row by row, with sums taken by `softmax` and `cumsum` only: a plain
`sum` may be split over threads differently for one row than for many, and would round differently.

Shapes: scores float32 `[n, vocabulary]`; columns `[n, 1]`; results int64 `[2, n]`, tokens over verdicts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from app.contract.requests import LEAST_TEMPERATURE, SamplingParams
from app.engine.transfer import send, send_floats

CHOSEN, UNDECIDED, FAILED = 0, 1, 2
"""A row's verdict: the token is chosen; more candidates are needed; no token can be chosen."""

CANDIDATES = 64
"""Most likely tokens that a draw examines first."""

FEW_CANDIDATES = 16
"""Enough for a small top-k, as the contract's 5: half the time of 64."""

MORE_CANDIDATES = 256
"""Examined where the first do not decide, before the whole vocabulary: on the CPUs of docs/decisions/0600 a row
costs 0.1 ms then, and a full sort 2.4 ms."""

BLOCK = 64
"""Scores whose maximum is taken together; the vocabularies of the catalogue are multiples of it."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Temperature, top-k, top-p and min-p of some rows, as columns. `limited`: top-k is on."""

    temperature: Tensor
    limited: Tensor
    top_k: Tensor
    top_p: Tensor
    min_p: Tensor

    @classmethod
    def of(cls, params: Sequence[SamplingParams], vocabulary: int, device: torch.device) -> Self:
        (limits,) = send(device, [[p.top_k if 0 < p.top_k < vocabulary else vocabulary for p in params]])
        top_k = limits.unsqueeze(-1)
        temperature, top_p, min_p = send_floats(
            device,
            [
                [max(p.temperature, LEAST_TEMPERATURE) for p in params],
                # Off is infinity, not 1: the rounded sum of all probabilities may pass 1 before the last token.
                [p.top_p if p.top_p < 1.0 else torch.inf for p in params],
                [p.min_p for p in params],
            ],
        )
        return cls(
            temperature=temperature.unsqueeze(-1),
            limited=top_k < vocabulary,
            top_k=top_k,
            top_p=top_p.unsqueeze(-1),
            min_p=min_p.unsqueeze(-1),
        )

    def select(self, rows: Tensor) -> "Filters":
        return Filters(
            temperature=self.temperature[rows],
            limited=self.limited[rows],
            top_k=self.top_k[rows],
            top_p=self.top_p[rows],
            min_p=self.min_p[rows],
        )


Draw = Callable[[Tensor, Filters, Tensor], Tensor]
"""From scores of any float type, filters and uniform numbers in [0, 1) to tokens and verdicts."""


def greedy(scores: Tensor, filters: Filters, uniform: Tensor) -> Tensor:  # noqa: ARG001  # a Draw
    """The highest score of each row, the lowest token among equals."""
    if scores.shape[-1] % BLOCK == 0:
        blocks = scores.float().reshape(len(scores), -1, BLOCK)  # of bfloat16 a CPU finds maxima eight times slower
        first = blocks.amax(dim=-1).max(dim=-1).indices
        best, place = blocks[torch.arange(len(scores), device=scores.device), first].max(dim=-1)
        tokens = first * BLOCK + place
    else:
        best, tokens = scores.max(dim=-1)
    return torch.stack((tokens, torch.isfinite(best).logical_not() * FAILED))


def draw_plain(scores: Tensor, filters: Filters, uniform: Tensor) -> Tensor:
    """A draw from rows that only have a temperature, over the vocabulary in its own order: no sort."""
    probabilities = (scores.float() / filters.temperature).softmax(dim=-1)
    cumulative = probabilities.cumsum(dim=-1)
    tokens = _invert(cumulative, cumulative[:, -1:], uniform).clamp(max=scores.shape[-1] - 1)
    # A parallel scan on a GPU is not strictly monotone and might hit a forbidden token; NaN fails here too.
    sound = probabilities.gather(-1, tokens) > 0
    return torch.stack((tokens, sound.logical_not() * UNDECIDED)).squeeze(-1)


def draw_few(scores: Tensor, filters: Filters, uniform: Tensor) -> Tensor:
    """`draw_limited` from rows whose top-k is below FEW_CANDIDATES."""
    return draw_limited(scores, filters, uniform, FEW_CANDIDATES)


def draw_limited(scores: Tensor, filters: Filters, uniform: Tensor, candidates: int = CANDIDATES) -> Tensor:
    """A draw from rows whose top-k is below `candidates`: tokens after the candidates have no probability."""
    candidates = min(candidates, scores.shape[-1])
    tokens = most_likely(scores, candidates)
    best, tokens = _in_order(scores.gather(-1, tokens).float() / filters.temperature, tokens)
    whole = candidates == scores.shape[-1]
    return _draw_among(best, tokens, best.softmax(dim=-1), filters, uniform, whole=whole)


def draw_filtered(scores: Tensor, filters: Filters, uniform: Tensor, candidates: int = CANDIDATES) -> Tensor:
    """A draw over the most likely `candidates`; with as many as the vocabulary has, no row is UNDECIDED."""
    candidates = min(candidates, scores.shape[-1])
    scaled = scores.float() / filters.temperature
    tokens = most_likely(scaled, candidates)
    best, tokens = _in_order(scaled.gather(-1, tokens), tokens)
    probabilities = scaled.softmax(dim=-1).gather(-1, tokens)
    return _draw_among(best, tokens, probabilities, filters, uniform, whole=candidates == scores.shape[-1])


def _draw_among(
    best: Tensor, tokens: Tensor, probabilities: Tensor, filters: Filters, uniform: Tensor, *, whole: bool
) -> Tensor:
    """A draw over candidates in order of falling probability, equal ones by token; `whole` if they are all tokens.

    Top-k, top-p and min-p each keep a head of that order, as `transformers`' warpers do one after the other,
    so the first candidates decide alone as long as the last of them is dropped. Otherwise the row is UNDECIDED.
    """
    least = best.gather(-1, (filters.top_k - 1).clamp(max=best.shape[-1] - 1))
    among = (best >= least) & (probabilities > 0)
    probabilities = probabilities.masked_fill(~among, 0.0)
    cumulative = probabilities.cumsum(dim=-1)
    mass = torch.where(filters.limited, cumulative[:, -1:], 1.0)  # what top-k leaves, top-p takes as the whole
    keep = (
        among
        & (cumulative - probabilities < filters.top_p * mass)
        & (probabilities >= filters.min_p * probabilities[:, :1])
    )
    last = (keep.sum(dim=-1, keepdim=True) - 1).clamp(min=0)  # the most likely token always stays

    place = torch.minimum(_invert(cumulative, cumulative.gather(-1, last), uniform), last)
    complete = torch.where(filters.limited, best[:, -1:] < least, ~keep[:, -1:])
    if whole:
        complete = torch.ones_like(complete)
    verdicts = torch.where(torch.isfinite(best[:, :1]), complete.logical_not() * UNDECIDED, FAILED)
    return torch.stack((tokens.gather(-1, place), verdicts)).squeeze(-1)


def most_likely(scores: Tensor, count: int) -> Tensor:
    """The tokens with the `count` highest scores, rising. On a CPU among the blocks with the highest maxima: a third
    of the time of one `topk` over the vocabulary."""
    vocabulary = scores.shape[-1]
    if count == vocabulary:
        return torch.arange(vocabulary, device=scores.device).expand_as(scores)
    if scores.device.type != "cpu" or vocabulary % BLOCK or count * BLOCK >= vocabulary:
        return scores.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    blocks = scores.float().reshape(len(scores), -1, BLOCK)
    chosen = blocks.amax(dim=-1).topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    within = blocks.gather(1, chosen.unsqueeze(-1).expand(-1, -1, BLOCK)).flatten(1)
    places = within.topk(count, dim=-1, sorted=False).indices.sort(dim=-1).values
    return chosen.gather(-1, places // BLOCK) * BLOCK + places % BLOCK


def _in_order(scores: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Candidates by falling score, equal ones by token; `tokens` rise."""
    best, order = scores.sort(dim=-1, descending=True, stable=True)
    return best, tokens.gather(-1, order)


def _invert(cumulative: Tensor, total: Tensor, uniform: Tensor) -> Tensor:
    """The first place whose cumulative sum passes `uniform * total`, as a column.

    The product may round up to `total`, which no place passes: stay one float below it.
    """
    target = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target, right=True)
