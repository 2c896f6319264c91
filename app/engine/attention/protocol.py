"""The protocol of the attention backends.

A backend belongs to one model. It allocates a layer's pages, plans a step once for each device, and writes the
step's new keys and values into their pages. How it attends depends on what the model's attention has to give: heads
of queries (`backends/heads.py`), in latent space (`latents.py` beside it), or rows that are not rotated yet
(`compiled.py`).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from app.engine.attention.step import Step


class StepPlan(Protocol):
    """A step on one device."""

    @property
    def position_ids(self) -> Tensor:
        """`[1, tokens]`."""
        ...


class Backend(Protocol):
    """`storage` is what `allocate` returned for the layer."""

    name: str
    reads_tables: bool
    """Whether its decode reads block tables and lengths on the device alone, so that a step can be captured."""

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of one layer."""
        ...

    def allocate(self, pages: int, device: torch.device) -> Any:
        """One layer's pages. Raises torch.OutOfMemoryError."""
        ...

    def plan(self, step: Step, device: torch.device) -> Any:
        """A StepPlan: the step as tensors on the device."""
        ...

    def write(self, plan: Any, storage: Any, keys: Tensor, values: Tensor) -> None:
        """Store the step's rows, `[1, heads, tokens, dim]` each (latent attention: latents and rotated keys)."""
        ...

    def discard(self, storage: Any, pages: Sequence[int]) -> None:
        """On a CPU, let the system have the memory of these pages of a layer. Nobody reads them before they are
        written again."""
        ...

    def copy(self, storage: Any, sources: Tensor, targets: Tensor) -> None:
        """Copy pages of a layer. No page is both a source and a target."""
        ...
