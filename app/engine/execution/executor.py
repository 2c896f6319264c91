"""One step on the devices: make room in the KV cache, run the copies, compute the forward pass.

The runner, the warm-up and the self-check compute their steps here, so that what is warmed up and checked is what
serves.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from app.engine.execution.decoder import Decoder
from app.engine.kv.cache import SlotCache
from app.engine.scheduling.scheduler import Scheduler
from app.engine.scheduling.sequence import Chunk, Copy, Decision, Slot


class Executor:
    """A decoder and the KV cache that it computes on. Belongs to the inference thread."""

    def __init__(self, decoder: Decoder, kv_tokens: int) -> None:
        self._decoder = decoder
        self._cache = SlotCache(kv_tokens)
        self._copies: list[Copy] = []  # decided and not yet run: a step that ran out of memory leaves them

    @property
    def devices(self) -> list[torch.device]:
        """Every device that computes."""
        return self._decoder.devices

    @property
    def has_pending_copies(self) -> bool:
        return bool(self._copies)

    @torch.inference_mode()
    def execute(self, decision: Decision) -> tuple[list[Chunk], Tensor]:
        """Compute one step. Returns the chunks that get a new token and their logits, `[n, vocabulary]`.

        After an out-of-memory error the next decision may be executed: copies that did not run come first then.
        """
        self._copies += decision.copies
        self._cache.reserve(decision.extents, self._copies)
        self._cache.copy(self._copies)
        self._copies.clear()
        return self._decoder.forward(decision, self._cache)

    def drop_copies_to(self, slot: Slot | None) -> None:
        """The slot's sequence has ended. A swap still runs: it also moves what the slot held before."""
        self._copies = [copy for copy in self._copies if copy.target != slot or copy.swap]

    def drop_all_copies(self) -> None:
        self._copies.clear()

    def shrink(self, extents: Mapping[int, int]) -> None:
        """Free the memory of slots above those in use."""
        self._cache.shrink(extents)


def steps(scheduler: Scheduler, executor: Executor) -> Iterator[tuple[list[Chunk], Tensor]]:
    """Step after step, until the scheduler has nothing to compute. The caller appends the new tokens."""
    while True:
        decision = scheduler.decide()
        if decision is None:
            return
        result = executor.execute(decision)
        scheduler.advance(decision)
        yield result
