"""The KV cache: every layer's pages on the layer's own device, allocated once.

It is a transformers `Cache`: a stock attention module calls `update`, which stores the step's new rows in their
pages; the backend's attention reads them there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from app.engine.attention.protocol import Backend
from app.engine.attention.step import Step
from app.engine.scheduling.decision import PageCopy
from app.engine.transfer import send

Pair = tuple[Tensor, Tensor]


class KvCache(Cache):
    """`pages` pages of `page_size` tokens. Where steps can be captured there is one more, `scratch`, that no sequence
    holds: unused rows of a captured step write there. Call `begin` with each step before its forward pass."""

    def __init__(self, backend: Backend, layer_devices: Sequence[torch.device], pages: int, page_size: int) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self.backend = backend
        self.page_size = page_size
        self.pages = self.scratch = pages
        self.plans: Mapping[torch.device, Any] = {}
        self._layer_devices = list(layer_devices)
        self._devices = list(dict.fromkeys(layer_devices))
        allocated = pages + 1 if backend.reads_tables else pages
        self._storage = [backend.allocate(allocated, device) for device in layer_devices]

    def begin(self, step: Step) -> None:
        """Plan the step on every device."""
        self.plans = {device: self.backend.plan(step, device) for device in self._devices}

    def copy(self, copies: Sequence[PageCopy]) -> None:
        """Copy pages, in every layer."""
        numbers = [copy.source for copy in copies], [copy.target for copy in copies]
        indices = {device: send(device, numbers) for device in self._devices}
        for device, storage in zip(self._layer_devices, self._storage, strict=True):
            self.backend.copy(storage, *indices[device])

    def discard(self, pages: Sequence[int]) -> None:
        """On a CPU, let the system have the memory of pages that nobody holds."""
        for storage in self._storage:
            self.backend.discard(storage, pages)

    def storage(self, layer_idx: int) -> Any:
        return self._storage[layer_idx]

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *_args: object,
        **_kwargs: object,
    ) -> Pair:
        """Store the step's rows, `[1, heads, tokens, dim]` each. Returns them unchanged: attention reads the
        pages."""
        plan = self.plans[key_states.device]
        self.backend.write(plan, self._storage[layer_idx], key_states, value_states)
        return key_states, value_states
