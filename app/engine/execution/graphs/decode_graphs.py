"""Decode steps as CUDA graphs: one launch for each GPU instead of hundreds.

A graph has fixed addresses and shapes, so there is one for each of some numbers of rows, and for each segment of
layers on one GPU: between two segments the hidden state is copied to where the next graph reads it. A step takes the
next larger number of rows, and its unused rows write to a page that no sequence holds. Steps with prompt chunks, with
more rows or with a longer context are computed eagerly, and so is everything where a step cannot be captured.
docs/decisions/0007-decode-steps-on-gpus.md has the reasons.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from app.engine.attention.cache import KvCache
from app.engine.attention.step import Row, Step
from app.engine.execution.decoder import Decoder
from app.engine.execution.graphs.capture import Capture, captured_on
from app.engine.execution.graphs.step_inputs import StepInputs

_log = logging.getLogger(__name__)

Replay = Callable[[], Tensor]

TOLERANCE = 0.1
"""How far a replayed step may be from the same step computed eagerly, by the norm of the difference: the same kernels
ran, but one rounding may turn a close choice of experts. A wrong replay is another step altogether."""


def sizes(most: int) -> list[int]:
    """Numbers of rows that are captured: 1, 2, 4, every eighth up to 64, then every 32nd, and `most`."""
    return [size for size in (1, 2, 4, *range(8, 64, 8), *range(64, most, 32)) if size < most] + [most]


@dataclass(frozen=True, slots=True)
class _Stage:
    """A segment's part of a captured step. It reads the hidden state `given`; the first reads tokens instead."""

    given: Tensor
    replay: Replay


class DecodeGraphs:
    """Captured steps over one cache, for at most `most` rows. `captures` make a replay of a computation, one for each
    device."""

    def __init__(self, decoder: Decoder, cache: KvCache, most: int, captures: Mapping[torch.device, Capture]) -> None:
        self._decoder = decoder
        self._cache = cache
        self._captures = captures
        pages = min(cache.pages, -(-decoder.longest // cache.page_size))
        self._inputs = StepInputs(most, pages, cache.page_size, cache.scratch, decoder.devices)
        self._steps: dict[int, list[_Stage]] = {}
        for size in reversed(sizes(most)):  # the largest first: the smaller ones then use its memory
            stages = self._captured(size)
            if stages is not None:
                self._steps[size] = stages
        self._steps = dict(sorted(self._steps.items()))

    @property
    def sizes(self) -> list[int]:
        return list(self._steps)

    def run(self, step: Step) -> Tensor | None:
        """The logits `[n, vocabulary]` of a step's rows, until the next call; None when it is not captured."""
        used = len(step.decode)
        size = next((size for size in self._steps if size >= used), None)
        if step.spans or size is None or not self._holds(step):
            return None
        self._inputs.fill(step, size)
        return _replayed(self._steps[size])[:used]

    def _holds(self, step: Step) -> bool:
        return max(row.length for row in step.decode) <= self._inputs.pages * self._cache.page_size

    def _captured(self, size: int) -> list[_Stage] | None:
        """A step that gave what the eager one gives; None, with a line in the log, where there is none."""
        self._inputs.fill(self._idle(size), size)
        expected = value = self._inputs.tokens(size, self._decoder.embed_device)
        stages: list[_Stage] = []
        try:
            for number, segment in enumerate(self._decoder.segments):
                given = value.to(segment.device, copy=True) if number else value
                compute = partial(self._compute, size, number, given)
                expected = value = compute()
                stages.append(_Stage(given, self._captures[segment.device](compute)))
            error = float((_replayed(stages) - expected).float().norm() / expected.float().norm())
        except Exception as refused:  # noqa: BLE001  # whatever a library raises, as when it waits for the device
            _log.warning("steps of this size are not captured", extra={"rows": size, "reason": repr(refused)})
            return None
        if not error <= TOLERANCE:
            _log.error("a captured step is wrong: it is not used", extra={"rows": size, "error": error})
            return None
        return stages

    def _compute(self, size: int, number: int, given: Tensor) -> Tensor:
        device = self._decoder.segments[number].device
        self._cache.plans = {device: self._inputs.plan(size, device)}
        return self._decoder.stage(number, given, self._cache)

    def _idle(self, size: int) -> Step:
        """Equal rows that all write to the scratch page and read it."""
        slot = self._cache.scratch * self._cache.page_size
        row = Row([self._cache.scratch], 1)
        return Step([0] * size, [0] * size, [slot] * size, (row,) * size, (), (), list(range(size)))


def _replayed(stages: Sequence[_Stage]) -> Tensor:
    value = stages[0].replay()
    for stage in stages[1:]:
        stage.given.copy_(value, non_blocking=True)  # between GPUs: it waits for the one and the other waits for it
        value = stage.replay()
    return value


@torch.inference_mode()
def capture_steps(decoder: Decoder, cache: KvCache, most: int) -> DecodeGraphs | None:
    """The captured steps for at most `most` sequences, or None where none can be. The log says which."""
    reason = _obstacle(decoder)
    if reason:
        _log.info("decode steps are computed eagerly", extra={"reason": reason})
        return None
    begun = time.monotonic()
    graphs = _captured_on_gpus(decoder, cache, most)
    seconds = round(time.monotonic() - begun, 2)
    _log.info("decode steps are captured as CUDA graphs", extra={"rows": graphs.sizes, "seconds": seconds})
    return graphs if graphs.sizes else None


def _captured_on_gpus(decoder: Decoder, cache: KvCache, most: int) -> DecodeGraphs:
    return DecodeGraphs(decoder, cache, most, {device: captured_on(device) for device in decoder.devices})


def _obstacle(decoder: Decoder) -> str:
    if any(device.type != "cuda" for device in decoder.devices):
        return "there is no GPU"
    if decoder.stands_apart:
        return "the embedding or the head is not on the GPU of its neighbour"
    return "" if decoder.backend.reads_tables else "attention needs lengths on the host"


@torch.inference_mode()
def graph_bytes(decoder: Decoder, most: int) -> dict[torch.device, int]:
    """Bytes that captured steps take on each GPU: they are captured over two pages and dropped again."""
    if _obstacle(decoder):
        return {}
    before = _free(decoder)
    graphs = _captured_on_gpus(decoder, decoder.new_cache(2), most)
    after = _free(decoder)
    del graphs
    _free(decoder)
    return {device: max(0, before[device] - after[device]) for device in before}


def _free(decoder: Decoder) -> dict[torch.device, int]:
    """Bytes that the driver has left, without what torch keeps."""
    free = {}
    for device in decoder.devices:
        with torch.cuda.device(device):
            torch.cuda.empty_cache()
            free[device] = torch.cuda.mem_get_info(device)[0]
    return free
