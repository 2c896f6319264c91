"""The log-probabilities of prompt tokens: the head over every row of a prompt, block by block.

A prompt's logits are large: those of 8,192 tokens over a vocabulary of 102,400 take 3.1 GiB in float32. A block's are
dropped when the few that are wanted were picked from them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from app.contract.events import PromptEvent
from app.engine.attention.step import Scored
from app.engine.kv.sequence import TokenSequence
from app.engine.sampling.logprobs import picked, with_logprobs
from app.engine.transfer import send

BLOCK_SCORES = 2**23
"""Logits of a block: 32 MiB in float32, and about three times that while they are normalised."""

PromptScores = list[tuple[TokenSequence, PromptEvent]]
"""The sequences whose prompts were scored, and their next tokens."""


def prompt_scores(
    hidden: Tensor, scored: Sequence[Scored], head: Callable[[Tensor], Tensor], vocabulary: int
) -> PromptScores:
    """Of the hidden states `[1, rows, size]` behind a step's layers. `head` makes logits `[n, vocabulary]` of hidden
    states `[1, n, size]`, perhaps on another device."""
    if not scored:
        return []
    tokens = [[one.sequence.tokens[place] for place in one.places] for one in scored]
    (rows,) = send(hidden.device, [[row for one in scored for row in one.rows]])
    wanted = [token for each in tokens for token in each]
    most = max(one.sequence.top_scores or 0 for one in scored)
    blocks = []
    for start in range(0, len(wanted), size := max(1, BLOCK_SCORES // vocabulary)):
        logits = head(hidden.index_select(1, rows[start : start + size]))
        (block,) = send(logits.device, [wanted[start : start + size]])
        blocks.append(picked(logits, block, most))
    values, ids = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    found: PromptScores = []
    end = 0
    for one, text in zip(scored, tokens, strict=True):
        start, end, top = end, end + len(text), one.sequence.top_scores or 0
        events = with_logprobs(text, values[start:end, : 1 + top], ids[start:end, :top])
        found.append((one.sequence, PromptEvent(tuple(events))))
    return found
