"""Decode steps as CUDA graphs: one launch for a step instead of a thousand.

A graph has fixed addresses and shapes, so there is one for each of some numbers of rows; a step takes the next larger
one, and its unused rows write to a page that no sequence holds. Steps with prompt chunks, with more rows or with a
longer context are computed eagerly, and so is everything where a step cannot be captured.
docs/decisions/0007-decode-steps-on-gpus.md has the reasons.
"""

import logging
import time
from collections.abc import Callable

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


class DecodeGraphs:
    """Captured steps over one cache, for at most `most` rows. `capture` makes a replay of a computation."""

    def __init__(self, decoder: Decoder, cache: KvCache, most: int, capture: Capture) -> None:
        self._decoder = decoder
        self._cache = cache
        self._device = decoder.devices[0]
        pages = min(cache.pages, -(-decoder.longest // cache.page_size))
        self._inputs = StepInputs(most, pages, cache.page_size, cache.scratch, self._device)
        self._replays: dict[int, Replay] = {}
        for size in reversed(sizes(most)):  # the largest first: the smaller ones then use its memory
            replay = self._captured(size, capture)
            if replay is not None:
                self._replays[size] = replay
        self._replays = dict(sorted(self._replays.items()))

    @property
    def sizes(self) -> list[int]:
        return list(self._replays)

    def run(self, step: Step) -> Tensor | None:
        """The logits `[n, vocabulary]` of a step's rows, until the next call; None when it is not captured."""
        used = len(step.decode)
        size = next((size for size in self._replays if size >= used), None)
        if step.spans or size is None or not self._holds(step):
            return None
        self._inputs.fill(step, size)
        return self._replays[size]()[:used]

    def _holds(self, step: Step) -> bool:
        return max(row.length for row in step.decode) <= self._inputs.pages * self._cache.page_size

    def _captured(self, size: int, capture: Capture) -> Replay | None:
        """A replay that gave what the eager step gives; None, with a line in the log, where there is none."""
        tokens, plan = self._inputs.views(size)

        def compute() -> Tensor:
            self._cache.plans = {self._device: plan}
            return self._decoder.compute(tokens, None, self._cache)

        self._inputs.fill(self._idle(size), size)
        expected = compute()
        try:
            replay = capture(compute)
            error = float((replay() - expected).float().norm() / expected.float().norm())
        except Exception as refused:  # noqa: BLE001  # whatever a library raises, as when it waits for the device
            _log.warning("steps of this size are not captured", extra={"rows": size, "reason": repr(refused)})
            return None
        if not error <= TOLERANCE:
            _log.error("a captured step is wrong: it is not used", extra={"rows": size, "error": error})
            return None
        return replay

    def _idle(self, size: int) -> Step:
        """Equal rows that all write to the scratch page and read it."""
        slot = self._cache.scratch * self._cache.page_size
        row = Row([self._cache.scratch], 1)
        return Step([0] * size, [0] * size, [slot] * size, (row,) * size, (), (), list(range(size)))


@torch.inference_mode()
def capture_steps(decoder: Decoder, cache: KvCache, most: int) -> DecodeGraphs | None:
    """The captured steps for at most `most` sequences, or None where none can be. The log says which."""
    reason = _obstacle(decoder)
    if reason:
        _log.info("decode steps are computed eagerly", extra={"reason": reason})
        return None
    begun = time.monotonic()
    graphs = DecodeGraphs(decoder, cache, most, captured_on(decoder.devices[0]))
    seconds = round(time.monotonic() - begun, 2)
    _log.info("decode steps are captured as CUDA graphs", extra={"rows": graphs.sizes, "seconds": seconds})
    return graphs if graphs.sizes else None


def _obstacle(decoder: Decoder) -> str:
    if decoder.devices[0].type != "cuda":
        return "there is no GPU"
    if len(decoder.devices) > 1:
        return "the model is on several GPUs, and a graph runs on one"
    return "" if decoder.backend.reads_tables else "attention needs lengths on the host"


def graph_bytes(decoder: Decoder, most: int) -> int:
    """Bytes that captured steps take on the GPU: they are captured over two pages and dropped again."""
    if _obstacle(decoder):
        return 0
    device = decoder.devices[0]
    with torch.cuda.device(device):
        torch.cuda.empty_cache()
        before, _ = torch.cuda.mem_get_info(device)
        graphs = DecodeGraphs(decoder, decoder.new_cache(2), most, captured_on(device))
        torch.cuda.empty_cache()
        after, _ = torch.cuda.mem_get_info(device)
        del graphs
        torch.cuda.empty_cache()
    return max(0, before - after)
