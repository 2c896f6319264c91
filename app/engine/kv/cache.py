"""The KV cache: for each layer and shelf one buffer of keys and one of values, on the layer's own device.

A buffer is `[slots, heads, capacity, dim]`. The shapes come from what the first forward pass stores, so grouped
keys and values and MLA's latents are the same to it. It is a transformers `Cache`: a stock attention module
calls `update`, which stores the step's new rows; what attention reads comes from `view`.
"""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from app.engine.kv import heap
from app.engine.kv.layout import Layout
from app.engine.scheduling.sequence import Copy

Pair = tuple[Tensor, Tensor]


class SlotCache(Cache):
    """Keys and values of every sequence, `kv_tokens` tokens at the most.

    `layouts` must be set to the step's before a forward pass.
    """

    def __init__(self, kv_tokens: int) -> None:
        super().__init__(layer_class_to_replicate=DynamicLayer)
        self._budget = kv_tokens
        self.layouts: Mapping[torch.device, Layout] = {}
        self._slots: dict[int, int] = {}
        self._written: dict[int, int] = {}  # the longest that any slot of a shelf was ever filled
        self._buffers: list[dict[int, Pair]] = []

    def reserve(self, extents: Mapping[int, int], copies: Iterable[Copy] = ()) -> None:
        """Make room for so many slots of each capacity, and keep what the copies are about to read.

        Grows in steps (half as much again), so that one more user does not mean one more copy of everything, but
        never past the budget: before that, other shelves give back what they hold above their extents. When memory
        ends half-way, what was there before is still there.
        """
        needed = dict(extents)
        for copy in copies:
            needed[copy.source.capacity] = max(needed.get(copy.source.capacity, 0), copy.source.index + 1)
        if _tokens({c: max(needed.get(c, 0), self._slots.get(c, 0)) for c in {*needed, *self._slots}}) > self._budget:
            self.shrink(needed)
        for capacity, slots in needed.items():
            held = self._slots.get(capacity, 0)
            if slots > held:
                spare = (self._budget - _tokens(self._slots)) // capacity + held
                self._resize(capacity, max(slots, min(held * 3 // 2, spare)))

    def shrink(self, extents: Mapping[int, int]) -> None:
        """Give back what lies above the slots in use."""
        for capacity, held in list(self._slots.items()):
            wanted = extents.get(capacity, 0)
            if wanted < held:
                self._resize(capacity, wanted)

    def copy(self, copies: Iterable[Copy]) -> None:
        """Run the copies in order, in every layer."""
        for copy in copies:
            self._note_written(copy.target.capacity, copy.length)
            for shelves in self._buffers:
                sources = shelves[copy.source.capacity]
                targets = self._pair(shelves, copy.target.capacity, *sources)
                for source, target in zip(sources, targets, strict=True):
                    _copy(
                        source[copy.source.index, :, : copy.length],
                        target[copy.target.index, :, : copy.length],
                        swap=copy.swap,
                    )

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *_args: object,
        **_kwargs: object,
    ) -> Pair:
        """Store the step's rows, `[1, heads, tokens, dim]` each, where the layout says. Returns them as they came:
        attention reads the slots through `view`."""
        shelves = self._layer(layer_idx)
        layout = self.layouts[key_states.device]
        for group in layout.groups:
            self._note_written(group.capacity, group.length)
            keys, values = self._pair(shelves, group.capacity, key_states, value_states)
            keys[group.slots, :, group.positions] = key_states[0, :, group.tokens].transpose(0, 1)
            values[group.slots, :, group.positions] = value_states[0, :, group.tokens].transpose(0, 1)
        for span in layout.spans:
            self._note_written(span.capacity, span.end)
            keys, values = self._pair(shelves, span.capacity, key_states, value_states)
            keys[span.slot, :, span.start : span.end] = key_states[0, :, span.tokens]
            values[span.slot, :, span.start : span.end] = value_states[0, :, span.tokens]
        return key_states, value_states

    def buffers(self, layer_idx: int, capacity: int, written: int, like: Tensor) -> Pair:
        """A shelf's whole buffers, to be written by the caller up to `written` tokens of each slot. `like` has the
        heads and the dimension of what will lie there, `[1, heads, any, dim]`."""
        self._note_written(capacity, written)
        return self._pair(self._layer(layer_idx), capacity, like, like)

    def view(self, layer_idx: int, capacity: int, slots: slice, length: int) -> Pair:
        """Keys and values of some slots of a shelf, `[slots, heads, length, dim]`, without a copy."""
        keys, values = self._buffers[layer_idx][capacity]
        return keys[slots, :, :length], values[slots, :, :length]

    def _layer(self, layer_idx: int) -> dict[int, Pair]:
        while len(self._buffers) <= layer_idx:
            self._buffers.append({})
        return self._buffers[layer_idx]

    def _pair(self, shelves: dict[int, Pair], capacity: int, keys: Tensor, values: Tensor) -> Pair:
        pair = shelves.get(capacity)
        if pair is None:
            slots = self._slots[capacity]
            pair = shelves[capacity] = (_slots_of(keys, slots, capacity), _slots_of(values, slots, capacity))
        return pair

    def _resize(self, capacity: int, slots: int) -> None:
        for shelves in self._buffers:
            if capacity in shelves:
                keys, values = shelves[capacity]
                written = self._written.get(capacity, 0)
                shelves[capacity] = (_resized(keys, slots, written), _resized(values, slots, written))
        self._slots[capacity] = slots

    def _note_written(self, capacity: int, length: int) -> None:
        self._written[capacity] = max(length, self._written.get(capacity, 0))


def _tokens(slots: Mapping[int, int]) -> int:
    return sum(capacity * count for capacity, count in slots.items())


def _copy(source: Tensor, target: Tensor, *, swap: bool) -> None:
    displaced = target.clone() if swap else None
    target.copy_(source)
    if displaced is not None:
        source.copy_(displaced)


def _slots_of(rows: Tensor, slots: int, capacity: int) -> Tensor:
    """Room for rows like these, `[1, heads, any, dim]`, in slots of a capacity."""
    return _zeros((slots, rows.shape[1], capacity, rows.shape[3]), rows)


def _zeros(shape: Sequence[int], like: Tensor) -> Tensor:
    """Zeros, because attention multiplies what lies behind a sequence's end by 0, and 0 times NaN is NaN."""
    if like.device.type == "cpu":
        return heap.zeros(shape, like.dtype)
    return torch.zeros(*shape, dtype=like.dtype, device=like.device)


def _resized(old: Tensor, slots: int, written: int) -> Tensor:
    """Copies what was written and no more."""
    new = _zeros((slots, *old.shape[1:]), old)
    kept = min(slots, old.shape[0])
    new[:kept, :, :written] = old[:kept, :, :written]
    return new
