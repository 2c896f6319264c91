"""How many pages of KV cache there are, measured once the model is warm.

The plan (`app/models/placement.py`) counts from sizes and a reserve. What a step needs beside weights and pages, and
what the driver and the libraries hold, is known only on the devices themselves.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence

import torch

from app.engine.errors import LoadError
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import greedy
from app.engine.execution.graphs.decode_graphs import graph_bytes
from app.engine.kv.pages import PAGE_SIZE
from app.models.placement import LEAST_KV_TOKENS

_log = logging.getLogger(__name__)

MARGIN = 512 * 2**20
"""Bytes of each GPU that stay free beside a measured step: libraries load kernels later, memory fragments, and a long
context takes a block's scratch (`attention/backends/partial.py`) that the measured step did not, as log-probabilities
of a prompt do (`prompt_scores.py`)."""

FreeAfterStep = Callable[[Decoder, int, int], dict[torch.device, int]]
"""Bytes that are left on each GPU beside the largest step, of (decoder, prompt tokens, sequences)."""


def pages_that_fit(
    decoder: Decoder, planned_tokens: int, *, prompt_tokens: int, sequences: int, measure: FreeAfterStep
) -> int:
    """The planned number of pages, or fewer where a GPU has less memory left. Raises LoadError for too few."""
    planned = planned_tokens // PAGE_SIZE
    layers = Counter(decoder.layer_devices)
    free = measure(decoder, prompt_tokens, sequences)
    fits = {
        device: max(0, left - MARGIN) // (layers[device] * decoder.backend.page_bytes)
        for device, left in free.items()
        if layers[device]  # else it holds the embedding or the head alone
    }
    pages = min([planned, *fits.values()])
    _log.info(
        "KV cache measured",
        extra={
            "planned_tokens": planned_tokens,
            "tokens": pages * PAGE_SIZE,
            "free_bytes_beside_a_step": {str(device): left for device, left in free.items()},
        },
    )
    if pages < max(1, min(LEAST_KV_TOKENS // PAGE_SIZE, planned)):
        raise LoadError(
            f"Beside the model and its largest step {pages * PAGE_SIZE} tokens of KV cache fit; {LEAST_KV_TOKENS} "
            "are the least. Free GPU memory, lower MAX_SEQUENCES or PREFILL_CHUNK, or use larger GPUs."
        )
    return pages


@torch.inference_mode()
def free_beside_a_step(decoder: Decoder, prompt_tokens: int, sequences: int) -> dict[torch.device, int]:
    """Run the largest step and read what each GPU has left beside its peak and captured steps. Empty without GPUs."""
    gpus: Sequence[torch.device] = [device for device in decoder.devices if device.type == "cuda"]
    if not gpus:
        return {}
    for gpu in gpus:
        torch.cuda.reset_peak_memory_stats(gpu)
    held = {gpu: torch.cuda.memory_allocated(gpu) for gpu in gpus}
    greedy(decoder, [[1] * prompt_tokens], 1, chunk=prompt_tokens)
    greedy(decoder, [[1]] * sequences, 2, chunk=prompt_tokens)
    peaks = {gpu: torch.cuda.max_memory_allocated(gpu) - held[gpu] for gpu in gpus}
    captured = graph_bytes(decoder, sequences)
    free = {}
    for gpu in gpus:
        with torch.cuda.device(gpu):
            torch.cuda.empty_cache()
        free[gpu] = torch.cuda.mem_get_info(gpu)[0] - peaks[gpu] - captured.get(gpu, 0)
    return free
