"""What must be true before the engine says that it is ready: the devices pass tensors on, and the model knows what
it is known to know.

On some machines peer-to-peer copies between GPUs give wrong numbers without an error (an IOMMU that translates them
is the usual reason); the model then answers fluent nonsense. And weights that were mixed up, a wrong rotary embedding
or a kernel that this GPU does not do right show in the very first tokens.
"""

import logging
from collections import abc
from itertools import pairwise
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from app.contract.tokenizer_config import read_tokenizer_config
from app.engine.errors import SelfCheckFailed
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import Executor, steps
from app.engine.scheduling.scheduler import Scheduler
from app.engine.scheduling.sequence import Sequence
from app.engine.scheduling.shelves import Shelves
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
    _log.info("the self-check is passed", extra={"golden_prompt": model is not None})


def check_copies(devices: abc.Sequence[torch.device]) -> None:
    """What goes from one device to the next and back must come back equal. Raises SelfCheckFailed."""
    for here, there in pairwise(devices):
        sent = torch.rand(ELEMENTS, generator=torch.Generator().manual_seed(0)).to(here)
        if not _equal(sent.to(there).to(here), sent):
            raise SelfCheckFailed(
                f"A tensor copied {here} → {there} → {here} came back changed: copies between these GPUs cannot be "
                "trusted. Often the IOMMU is the reason: try iommu=pt, or turn ACS off."
            )


def check_golden(decoder: Decoder, folder: Path, golden: Golden, *, verified: bool) -> None:
    """The golden prompt must be continued as it is known to be; where that is only assumed, another answer is told in
    the log. Raises SelfCheckFailed."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    leading = read_tokenizer_config(folder).leading_tokens(tokenizer.token_to_id)
    prompt = [*leading, *tokenizer.encode(golden.prompt, add_special_tokens=False).ids]
    expected = tokenizer.encode(golden.answer, add_special_tokens=False).ids
    answer = tokenizer.decode(greedy(decoder, prompt, len(expected) + 1))
    if answer.startswith(golden.answer):
        return
    if verified:
        raise SelfCheckFailed(
            f"The golden prompt gave {answer!r}, not {golden.answer!r}: the weights, a kernel or a device is wrong."
        )
    _log.warning(
        "the golden prompt gave another answer than assumed; nobody has seen this model's, so look whether its "
        "answers make sense",
        extra={"answer": answer, "assumed": golden.answer},
    )


def greedy(decoder: Decoder, prompt: abc.Sequence[int], count: int) -> list[int]:
    """The most likely `count` tokens after the prompt, computed as requests are: prefill, then decode steps."""
    room = len(prompt) + count
    scheduler = Scheduler(Shelves(room, room), max_sequences=1, chunk=room)
    sequence = Sequence("self-check", list(prompt), count)
    scheduler.add(sequence)
    for chunks, logits in steps(scheduler, Executor(decoder, room)):
        if chunks:
            sequence.tokens.append(int(logits[0].argmax()))
        if sequence.generated == count:
            break
    return sequence.tokens[sequence.prompt_length :]


def _equal(a: Tensor, b: Tensor) -> bool:
    return bool((a == b).all())
