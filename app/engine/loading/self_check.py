"""Checks before the engine is ready: copies between devices are exact, and the model continues a known prompt.

On some machines peer-to-peer copies between GPUs give wrong numbers without an error (an IOMMU that translates them
is the usual reason), and the model writes fluent nonsense. Mixed-up weights, a wrong rotary embedding, or a kernel
that is wrong on this GPU change the very first tokens.
"""

import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from app.contract.tokenizer_config import read_tokenizer_config
from app.engine.errors import SelfCheckFailed
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import greedy
from app.models.catalogue import CATALOGUE, Golden

_log = logging.getLogger(__name__)

ELEMENTS = 1 << 20
"""Of the tensor that travels: 4 MB, so that it does not fit into one small transfer."""


def check(decoder: Decoder, name: str, folder: Path) -> None:
    """Raises SelfCheckFailed."""
    check_copies(decoder.devices)
    model = CATALOGUE.get(name)
    if model is not None:
        check_golden(decoder, folder, model.golden, verified=model.golden_verified)
    _log.info("the self-check passed", extra={"golden_prompt": model is not None})


def check_copies(devices: Sequence[torch.device]) -> None:
    """Copy a tensor from each device to the next and back. Raises SelfCheckFailed when it comes back changed."""
    for here, there in pairwise(devices):
        sent = torch.rand(ELEMENTS, generator=torch.Generator().manual_seed(0)).to(here)
        if not _equal(sent.to(there).to(here), sent):
            raise SelfCheckFailed(
                f"A tensor copied {here} → {there} → {here} came back changed: copies between these GPUs cannot be "
                "trusted. Often the IOMMU is the reason: try iommu=pt, or turn ACS off."
            )


def check_golden(decoder: Decoder, folder: Path, golden: Golden, *, verified: bool) -> None:
    """Raises SelfCheckFailed when the golden prompt gets another answer than the known one. Where the answer is only
    assumed (not `verified`), another one is logged."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    leading = read_tokenizer_config(folder).leading_tokens(tokenizer.token_to_id)
    prompt = [*leading, *tokenizer.encode(golden.prompt, add_special_tokens=False).ids]
    expected = tokenizer.encode(golden.answer, add_special_tokens=False).ids
    answer = tokenizer.decode(greedy(decoder, [prompt], len(expected) + 1, chunk=len(prompt))[0])
    if answer.startswith(golden.answer):
        return
    if verified:
        raise SelfCheckFailed(
            f"The golden prompt gave {answer!r}, not {golden.answer!r}: the weights, a kernel or a device is wrong."
        )
    _log.warning(
        "the golden prompt gave another answer than assumed: check that the model's answers make sense",
        extra={"answer": answer, "assumed": golden.answer},
    )


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool((a == b).all())
