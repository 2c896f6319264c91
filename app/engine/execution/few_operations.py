"""Computes a model's layers in few operations where that runs right: on GPUs, for DeepSeek-V2 and Llama.

As with the attention's kernels, nothing is trusted unseen: at the start each segment of layers is computed both ways.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from app.engine.attention.backends.on_gpu import TritonHeads, TritonLatents
from app.engine.attention.cache import KvCache
from app.engine.attention.step import Row, Step
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.transfer import send

_log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}
"""How far a segment's output may be from the modules', by the norm of the difference: another rounding may turn a
close choice of experts."""

TRIED = (1, 9, 16, 32, 64, 80, 1024)
"""Numbers of rows that are compared: every form of the experts and every number of rows of their tiles."""


@dataclass(frozen=True, slots=True)
class _Family:
    """Whose layers they may be: why some are not, and how those that are will run."""

    obstacle: Callable[[Sequence[nn.Module]], str]
    run_of: Callable[[Sequence[nn.Module]], Callable[[Tensor, Any, KvCache], Tensor]]


def use_few_operations(decoder: Decoder) -> int:
    """Let the decoder compute its layers so. Returns the number of layers that are."""
    if find_spec("triton") is None or not isinstance(decoder.backend, TritonLatents | TritonHeads):
        return 0
    family = _family(decoder)
    return sum(_changed(decoder, number, family) for number in range(len(decoder.segments)))


def _family(decoder: Decoder) -> _Family:
    from app.engine.layers import deepseek, llama_gpu  # noqa: PLC0415  # they need Triton

    if isinstance(decoder.backend, TritonLatents):
        return _Family(deepseek.obstacle, partial(deepseek.FewOperations, policy=decoder.experts))
    return _Family(llama_gpu.obstacle, llama_gpu.FewOperations)


@torch.inference_mode()
def _changed(decoder: Decoder, number: int, family: _Family) -> int:
    segment = decoder.segments[number]
    reason = family.obstacle(segment.layers)
    if reason:
        _log.info("layers are computed by their modules", extra={"reason": reason})
        return 0
    modules = segment.run
    try:
        expected = [_outputs(decoder, number, rows) for rows in TRIED]
        segment.run = family.run_of(segment.layers)
        error = max(
            float((_outputs(decoder, number, rows) - wanted).norm() / wanted.norm())
            for rows, wanted in zip(TRIED, expected, strict=True)
        )
    except Exception as refused:  # noqa: BLE001  # compilers and drivers raise errors of many classes
        _log.warning("our layers do not run here: their modules compute them", extra={"reason": repr(refused)})
        segment.run = modules
        return 0
    if not error <= TOLERANCE[decoder.dtype]:
        _log.error("our layers are wrong here: their modules compute them", extra={"error": error})
        segment.run = modules
        return 0
    return len(segment.layers)


def _outputs(decoder: Decoder, number: int, rows: int) -> Tensor:
    """What the segment makes of one step, in float32. Its rows fill pages as a prompt's do, and each sees its page
    up to itself."""
    cache = decoder.new_cache(-(-rows // PAGE_SIZE))
    places = [row % PAGE_SIZE for row in range(rows)]
    tokens = [3 + row % (decoder.vocabulary - 3) for row in range(rows)]
    sequences = tuple(Row([row // PAGE_SIZE], place + 1) for row, place in enumerate(places))
    cache.begin(Step(tokens, places, list(range(rows)), sequences, (), (), []))
    (value,) = send(decoder.embed_device, [tokens])
    value = value.unsqueeze(0)
    if number:
        hidden = torch.randn(1, rows, decoder.width, generator=torch.Generator().manual_seed(number))
        value = hidden.to(decoder.segments[number].device, decoder.dtype)
    return decoder.through(number, value, cache).float()
