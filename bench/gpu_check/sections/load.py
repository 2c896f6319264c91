"""The product's own start-up on a checkpoint, and its memory against the plan."""

import gc
import time
from collections.abc import Iterator

import torch

from app.contract.options import DType
from app.engine.attention.mla import AbsorbedAttention
from app.engine.health import Health
from app.engine.loading.startup import load_decoder
from app.local_engine import engine_config
from app.models.selection import Selection
from app.settings import Settings
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import write_random
from bench.gpu_check.report import Row

KV_TOKENS = 200_000
"""Enough for the longest measured batch, and little enough that a second cache fits beside the first."""


def load(bench: Bench) -> Iterator[Row]:
    begun = time.monotonic()
    size = write_random(bench.config, bench.folder, bench.device, bench.dtype)
    yield Row("checkpoint written", size / 1e9, "GB", note=f"{time.monotonic() - begun:.0f} s. {bench.note}".strip())
    gc.collect()  # of the sections before, whose tensors would be freed during the load
    if bench.gpus:
        torch.cuda.empty_cache()
    before = _allocated(bench)
    settings = Settings(
        dtype=DType.AUTO if bench.gpus else DType.FLOAT32, max_sequences=64, kv_tokens=KV_TOKENS if bench.gpus else 0
    )
    config = engine_config(settings, Selection("gpu-check", bench.folder, bench.gpus, "written for this check"))
    begun = time.monotonic()
    with torch.inference_mode():
        decoder = load_decoder(config, bench.observers, Health(bench.observers))
    bench.engine_config, bench.decoder = config, decoder
    yield Row("the product's start-up", time.monotonic() - begun, "s", note="load, adapt, warm-up, self-check")
    absorbed = sum(isinstance(layer.self_attn, AbsorbedAttention) for layer in decoder._layers)  # noqa: SLF001  # what runs
    yield Row("layers with absorbed attention", str(absorbed), ok=absorbed == bench.config.num_hidden_layers)
    if bench.gpus:
        ours = sum(len(each.layers) for each in decoder.segments if type(each.run).__name__ == "FewOperations")
        yield Row("layers in few operations", str(ours), ok=ours == bench.config.num_hidden_layers)
        held = _allocated(bench) - before
        ratio = held / config.plan.weights
        yield Row("weights on the devices / plan", ratio, ok=abs(ratio - 1) <= 0.02, note=f"{held / 2**30:.2f} GiB")


def _allocated(bench: Bench) -> int:
    return sum(torch.cuda.memory_allocated(gpu.index) for gpu in bench.gpus)
