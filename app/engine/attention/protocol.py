"""The protocol of the attention backends.

A backend belongs to one model. It allocates a layer's pages, plans a step once for each device, writes
the step's new keys and values into their pages, and attends from the step's queries.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from app.engine.attention.step import Step


class Plan(Protocol):
    """A step on one device."""

    @property
    def position_ids(self) -> Tensor:
        """`[1, tokens]`."""
        ...


class Backend(Protocol):
    """`storage` is what `allocate` returned for the layer."""

    name: str

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of one layer."""
        ...

    def allocate(self, pages: int, device: torch.device) -> Any:
        """One layer's pages. Raises torch.OutOfMemoryError."""
        ...

    def plan(self, step: Step, device: torch.device) -> Any:
        """A Plan: the step as tensors on the device, for `write` and `attend`."""
        ...

    def write(self, plan: Any, storage: Any, keys: Tensor, values: Tensor) -> None:
        """Store the step's rows, `[1, heads, tokens, dim]` each (latent attention: latents and rotated keys)."""
        ...

    def attend(self, plan: Any, storage: Any, query: Tensor, scaling: float) -> Tensor:
        """`[1, heads, tokens, dim]` queries to `[1, tokens, heads, dim]`."""
        ...
