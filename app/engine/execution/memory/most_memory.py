"""What a server without a GPU needs of the machine's memory at most, said once at its start.

The KV cache is address space: a page takes memory when its first token is written, and keeps it until a cleanup finds
it free. Pages of cached prefixes are not, so a server grows for hours to what it says here.
"""

import logging

from app.engine.execution.decoder import Decoder
from app.models.placement import CPU_WORKING_MEMORY

_log = logging.getLogger(__name__)


def say_most_memory(decoder: Decoder, pages: int) -> None:
    """Log it in bytes. On GPUs the measured KV cache says as much."""
    if decoder.devices[0].type != "cpu":
        return
    cache = pages * decoder.backend.page_bytes * len(decoder.layer_devices)
    _log.info(
        "the most memory that this server needs",
        extra={
            "weights_bytes": decoder.weight_bytes,
            "kv_cache_bytes": cache,
            "working_bytes": CPU_WORKING_MEMORY,
            "most_bytes": decoder.weight_bytes + cache + CPU_WORKING_MEMORY,
        },
    )
