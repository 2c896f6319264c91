"""Which type a model is computed in. Without a GPU it is measured: some CPUs multiply bfloat16 twice as fast as
float32, others only emulate it, five times slower. See docs/decisions/0003-speed-without-a-gpu.md.
"""

import logging
import time

import torch

from app.engine.packed import PackedLinear, can_pack
from app.settings import DType

_log = logging.getLogger(__name__)

ROWS = (1, 32)
"""One user, and a full batch: bfloat16 has to win for both together."""

WIDTH, HEIGHT = 1024, 2048
"""Of the weight that is measured: 8 MB in float32, more than a second-level cache holds, as a model's weights are."""


def choose_dtype(wanted: DType, *, on_gpu: bool) -> torch.dtype:
    """What `DTYPE` says; `auto`: bfloat16 where the device is good at it, else float16 on GPUs, float32 on CPUs."""
    if wanted is not DType.AUTO:
        dtype: torch.dtype = getattr(torch, wanted.value)
        return dtype
    if on_gpu:
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if not can_pack(torch.bfloat16):
        return torch.float32
    return _faster(torch.float32, torch.bfloat16)


def _faster(*dtypes: torch.dtype) -> torch.dtype:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on a busy machine threads that wait for each other would be all that is measured
    try:
        times = {dtype: sum(_milliseconds(dtype, rows) for rows in ROWS) for dtype in dtypes}
    finally:
        torch.set_num_threads(threads)
    best = min(times, key=times.__getitem__)
    _log.info(
        "the type is measured",
        extra={"choice": str(best), "milliseconds": {str(dtype): round(value, 3) for dtype, value in times.items()}},
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
