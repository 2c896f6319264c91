"""Chooses the number type that a model computes in. Without a GPU it measures: some CPUs multiply bfloat16 twice as
fast as float32, others only emulate it, five times slower. See docs/decisions/0003-speed-without-a-gpu.md.
"""

import logging
import time
from collections.abc import Sequence

import torch

from app.contract.options import DType
from app.engine.layers.packed import PackedLinear, can_pack
from app.models.placement import Gpu

_log = logging.getLogger(__name__)

ROWS = (1, 32)
"""One user, and a full batch: bfloat16 has to be faster in their sum."""

WIDTH, HEIGHT = 1024, 2048
"""Of the weight that is measured: 8 MB in float32, more than a second-level cache holds, as a model's weights are."""


BFLOAT16_FROM = (8, 0)
"""Compute capability: Ampere. torch accepts it on older cards as well, and emulates it."""


def choose_dtype(wanted: DType, gpus: Sequence[Gpu] = ()) -> torch.dtype:
    """What `DTYPE` says; `auto`: bfloat16 where every device has instructions for it, else float16 on GPUs, float32
    on a CPU.

    `gpus` are those that hold a part of the model; none: the CPU.
    """
    if wanted is not DType.AUTO:
        dtype: torch.dtype = getattr(torch, wanted.value)
        return dtype
    if gpus:
        weakest = min(gpu.capability or (0, 0) for gpu in gpus)
        return torch.bfloat16 if weakest >= BFLOAT16_FROM else torch.float16
    if not can_pack(torch.bfloat16):
        return torch.float32
    return _faster(torch.float32, torch.bfloat16)


def _faster(*dtypes: torch.dtype) -> torch.dtype:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine the measurement would be of threads that wait for each other
    try:
        times = {dtype: sum(_milliseconds(dtype, rows) for rows in ROWS) for dtype in dtypes}
    finally:
        torch.set_num_threads(threads)
    best = min(times, key=times.__getitem__)
    _log.info(
        "number type measured",
        extra={"chosen": str(best), "milliseconds": {str(dtype): round(value, 3) for dtype, value in times.items()}},
    )
    return best


def _milliseconds(dtype: torch.dtype, rows: int, tries: int = 5) -> float:
    """The shortest time of one packed multiplication, after one that is not counted."""
    linear = PackedLinear(torch.ones(HEIGHT, WIDTH, dtype=dtype), None)
    x = torch.ones(1, rows, WIDTH, dtype=dtype)
    linear(x)
    best = float("inf")
    for _ in range(tries):
        begun = time.perf_counter()
        linear(x)
        best = min(best, time.perf_counter() - begun)
    return best * 1000
