"""Attention over pages on GPUs: Triton kernels for decode steps, plain torch for prompt chunks.

A kernel is used only where it has run on every device of the model and agreed with plain torch: a card may be too
small for its tiles, and a machine may lack the compiler that Triton needs (`app/engine/loading/compile_caches.py`).
"""

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from types import ModuleType
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from app.engine.attention.backends.heads import HeadPages, HeadsBackend
from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.backends.trials import (
    PAGES,
    distance,
    group_of,
    random,
    rotated_halves,
    rotated_neighbours,
    slots_of,
)
from app.engine.attention.paged_plan import Group, PagedPlan, plan_pages
from app.engine.attention.step import Step
from app.engine.kv.shape import HeadsShape, LatentShape

_log = logging.getLogger(__name__)

TOLERANCE = {torch.float32: 1e-4, torch.float16: 0.01, torch.bfloat16: 0.03}
"""How far a row of a kernel's output may be from plain torch, by its norm: it rounds in another order."""

Norm = tuple[Tensor, float]
"""Weight and epsilon of an RMSNorm."""

ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Numbers of rows that are tried: they decide into how many parts a context is split, each of which is compiled by
itself. From 256 on it is not split (`triton/splits.py`)."""


class TritonLatents(LatentsBackend):
    """`kernels` is `triton.latents` beside this module, and `rotation` is `triton.rotation`: neither can be imported
    everywhere."""

    name = "Triton over pages of latents"
    reads_tables = True

    def __init__(
        self, shape: LatentShape, page_size: int, dtype: torch.dtype, kernels: ModuleType, rotation: ModuleType
    ) -> None:
        super().__init__(shape, page_size, dtype)
        self._kernels = kernels
        self._rotation = rotation

    def plan(self, step: Step, device: torch.device) -> PagedPlan:
        return plan_pages(step, self._size, device, one_group=True)

    def decode(self, group: Group, storage: Tensor, query: Tensor, scaling: float) -> Tensor:
        return self.decode_apart(group, storage, query[..., : self._rank], query[..., self._rank :], scaling)

    def decode_apart(self, group: Group, storage: Tensor, query: Tensor, rope: Tensor, scaling: float) -> Tensor:
        """`decode` of queries that lie apart: `[h, n, rank]` for latents, `[h, n, rope]` for rotated keys."""
        summed = self._kernels.attend(query, rope, storage, group.tables, group.lengths, scaling=scaling)
        return cast("Tensor", summed)

    def rotate_and_write(
        self, plan: PagedPlan, storage: Tensor, query: Tensor, compressed: Tensor, *, rotation: Tensor, norm: Norm
    ) -> None:
        """Rotate `query` `[tokens, h, nope + rope]` in place, and store the step's rows from `compressed`
        `[tokens, rank + rope]`, as projected. `rotation` is complex, `[tokens, rope / 2]`. Rows are contiguous, each
        in itself."""
        self._rotation.rotate_and_store(
            query, compressed, rotation=rotation, norm=norm[0], slots=plan.slots, pages=storage, epsilon=norm[1]
        )

    def difference(self, group: Group, heads: int) -> float:
        """The largest difference of a row from plain torch, over random pages."""
        storage = self.allocate(PAGES, group.tables.device)
        storage.copy_(random(storage.shape, storage))
        query = random((heads, len(group.lengths), self._width), storage)
        error = distance(self.decode(group, storage, query, 0.1), super().decode(group, storage, query, 0.1))
        return max(error, self._difference_of_rotation(storage, heads))

    def _difference_of_rotation(self, storage: Tensor, heads: int) -> float:
        tokens, rank, rope = 4, self._rank, self._width - self._rank
        query, compressed = random((tokens, heads, 3 * rope), storage), random((tokens, self._width), storage)
        angles = random((tokens, rope // 2), storage).float()
        rotation, weight = torch.polar(torch.ones_like(angles), angles), random((rank,), storage)
        latent = F.rms_norm(compressed[:, :rank], (rank,), weight, 1e-6)
        rows = torch.cat((latent, rotated_neighbours(compressed[:, rank:], rotation)), dim=-1)
        turned = rotated_neighbours(query[..., -rope:], rotation.unsqueeze(1))
        slots = slots_of(self._size, storage.device)
        self._rotation.rotate_and_store(
            query, compressed, rotation=rotation, norm=weight, slots=slots, pages=storage, epsilon=1e-6
        )
        stored = storage.view(-1, self._width)[slots]
        return max(distance(stored, rows), distance(query[..., -rope:], turned))


class TritonHeads(HeadsBackend):
    """`kernels` is `triton.heads` beside this module, and `rotation` is `triton.head_rotation`, as above."""

    name = "Triton over pages"
    reads_tables = True

    def __init__(
        self, shape: HeadsShape, page_size: int, dtype: torch.dtype, kernels: ModuleType, rotation: ModuleType
    ) -> None:
        super().__init__(shape, page_size, dtype)
        self._kernels = kernels
        self._rotation = rotation

    def plan(self, step: Step, device: torch.device) -> PagedPlan:
        return plan_pages(step, self._size, device, one_group=True)

    def decode(self, group: Group, storage: HeadPages, query: Tensor, scaling: float) -> Tensor:
        query = query if query.stride(-1) == 1 else query.contiguous()
        keys, values = storage.keys, storage.values
        output = self._kernels.attend(query, keys, values, group.tables, group.lengths, scaling=scaling)
        return cast("Tensor", output)

    def rotate_and_write(
        self, plan: PagedPlan, storage: HeadPages, states: Tensor, rotation: tuple[Tensor, Tensor]
    ) -> None:
        """Rotate the queries of `states` `[tokens, h + 2k, d]` in place, and store its keys and values, which are
        behind them. `rotation` is cosines and sines, `[1, tokens, d]`, which rotate halves. All are contiguous."""
        cos, sin = rotation[0][0], rotation[1][0]
        keys, values = storage.keys, storage.values
        self._rotation.rotate_and_store(states, cos=cos, sin=sin, slots=plan.slots, keys=keys, values=values)

    def difference(self, group: Group, heads: int) -> float:
        """The largest difference of a row from plain torch, over random pages."""
        storage = self.allocate(PAGES, group.tables.device)
        storage.keys.copy_(random(storage.keys.shape, storage.keys))
        storage.values.copy_(random(storage.values.shape, storage.values))
        query = random((heads, len(group.lengths), self._shape.dim), storage.keys)
        error = distance(self.decode(group, storage, query, 0.1), super().decode(group, storage, query, 0.1))
        return max(error, self._difference_of_rotation(storage, heads))

    def _difference_of_rotation(self, storage: HeadPages, heads: int) -> float:
        tokens, key_heads, dim = 4, self._shape.heads, self._shape.dim
        states = random((tokens, heads + 2 * key_heads, dim), storage.keys)
        angles = random((tokens, dim // 2), storage.keys).float().repeat(1, 2)
        cos, sin = angles.cos().to(states), angles.sin().to(states)
        rotated, values = rotated_halves(states[:, :-key_heads], cos, sin), states[:, -key_heads:].clone()
        slots = slots_of(self._size, states.device)
        pages, places = slots // self._size, slots % self._size
        self._rotation.rotate_and_store(
            states, cos=cos, sin=sin, slots=slots, keys=storage.keys, values=storage.values
        )
        return max(
            distance(states[:, :heads], rotated[:, :heads]),
            distance(storage.keys[pages, :, places], rotated[:, heads:]),
            distance(storage.values[pages, :, places], values),
        )


def triton_backend(
    shape: HeadsShape | LatentShape, page_size: int, dtype: torch.dtype, heads: int, devices: Sequence[torch.device]
) -> LatentsBackend | HeadsBackend | None:
    """The backend with Triton's kernels for `heads` query heads, or None where it does not run on all `devices`."""
    if find_spec("triton") is None:
        return None
    backend: TritonLatents | TritonHeads
    try:
        if isinstance(shape, LatentShape):
            from app.engine.attention.backends.triton import latents, rotation  # noqa: PLC0415  # it needs Triton

            backend = TritonLatents(shape, page_size, dtype, latents, rotation)
        else:
            from app.engine.attention.backends.triton import head_rotation  # noqa: PLC0415  # likewise
            from app.engine.attention.backends.triton import heads as per_head  # noqa: PLC0415  # likewise

            backend = TritonHeads(shape, page_size, dtype, per_head, head_rotation)
        error = max(largest_difference(backend, heads, device) for device in devices)
    except Exception as refused:  # noqa: BLE001  # compilers and drivers raise errors of many classes
        _log.warning("Triton's attention does not run here: plain torch is used", extra={"reason": repr(refused)})
        return None
    if not error <= TOLERANCE[dtype]:
        _log.error("Triton's attention is wrong here: plain torch is used", extra={"error": error})
        return None
    return backend


@torch.inference_mode()
def largest_difference(backend: TritonLatents | TritonHeads, heads: int, device: torch.device) -> float:
    """From plain torch, over random pages, with contexts split into many parts and few."""
    return max(backend.difference(group_of(backend.page_size, rows, device), heads) for rows in ROWS)
