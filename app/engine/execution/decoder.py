"""The forward pass of one step through a transformers decoder: embedding, layers, norm and head.

Works for every model of the common shape (`model.embed_tokens`, `.rotary_emb`, `.layers`, `.norm`, `lm_head`)
with its layers on one device or several. Between two devices one hidden state crosses per step; positions,
rotary embeddings and masks are made on each device once.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from app.engine.attention.cache import KvCache
from app.engine.attention.step import Step
from app.engine.attention.transfer import send
from app.engine.errors import UnsupportedModel
from app.engine.execution.choose_backend import choose_backend
from app.engine.kv.pages import PAGE_SIZE
from app.engine.layers.experts import ExpertsPolicy
from app.engine.layers.packed import PackedLinear


class Decoder:
    """`model` is a causal language model whose attention works on pages; `experts` says how its experts are
    computed, if it has any."""

    def __init__(self, model: nn.Module, experts: ExpertsPolicy | None = None) -> None:
        base = getattr(model, "model", None)
        missing = [n for n in ("embed_tokens", "layers", "norm", "rotary_emb") if not hasattr(base, n)]
        if base is None or missing or not hasattr(model, "lm_head"):
            raise UnsupportedModel(f"{type(model).__name__} lacks {', '.join(missing) or 'model or lm_head'}")
        self._experts = experts
        self._embed: nn.Module = base.embed_tokens
        self._layers: list[nn.Module] = list(base.layers)
        self._norm: nn.Module = base.norm
        self._head = cast("nn.Module", model.lm_head)
        self.layer_devices = [_device_of(layer) for layer in self._layers]
        self._rotary = {device: _on(base.rotary_emb, device) for device in self.devices}
        self.longest = int(model.config.max_position_embeddings)  # type: ignore[union-attr,arg-type]  # transformers'
        self.dtype = next(iter(base.norm.parameters())).dtype
        self.backend = choose_backend(model.config, self._layers, self.dtype, self.devices)

    @property
    def devices(self) -> list[torch.device]:
        """Every device that computes, in the order of the steps. The embedding or the head may have one to itself."""
        ends = _device_of(self._norm), _device_of(self._head)
        return list(dict.fromkeys((self.embed_device, *self.layer_devices, *ends)))

    @property
    def embed_device(self) -> torch.device:
        return _device_of(self._embed)

    @property
    def weight_bytes(self) -> int:
        """Of all weights. A head that is tied to the embedding counts twice where it was packed."""
        parts = nn.ModuleList([self._embed, *self._layers, self._norm, self._head])
        packed = sum(module.weight_bytes for module in parts.modules() if isinstance(module, PackedLinear))
        return packed + sum(weight.numel() * weight.itemsize for weight in parts.parameters())

    def new_cache(self, pages: int) -> KvCache:
        """A KV cache for this model. Raises torch.OutOfMemoryError."""
        return KvCache(self.backend, self.layer_devices, pages, PAGE_SIZE)

    def forward(self, step: Step, cache: KvCache) -> Tensor:
        """Compute one step: the logits of its sampled rows, `[n, vocabulary]`."""
        cache.begin(step)
        (tokens,) = send(self.embed_device, [step.tokens])
        rows = None
        if len(step.sampled_rows) < len(step.tokens):
            (rows,) = send(self.layer_devices[-1], [step.sampled_rows])
        return self.compute(tokens.unsqueeze(0), rows, cache)

    def compute(self, tokens: Tensor, rows: Tensor | None, cache: KvCache) -> Tensor:
        """What a step launches on its devices, by the cache's plans: `tokens` `[1, tokens]`, and the `rows` whose
        logits are wanted, if not all."""
        if self._experts is not None:
            self._experts.apply(tokens.shape[1])
        hidden = self._through_layers(self._embed(tokens), cache)
        if rows is not None:
            hidden = hidden.index_select(1, rows)
        hidden = self._norm(hidden.to(_device_of(self._norm)))
        logits: Tensor = self._head(hidden.to(_device_of(self._head)))[0]
        return logits

    def _through_layers(self, hidden: Tensor, cache: KvCache) -> Tensor:
        rotary: dict[torch.device, Any] = {}
        for layer, device in zip(self._layers, self.layer_devices, strict=True):
            if device not in rotary:
                hidden = hidden.to(device)
                rotary[device] = self._rotary[device](hidden, position_ids=cache.plans[device].position_ids)
            hidden = layer(
                hidden,
                position_embeddings=rotary[device],
                past_key_values=cache,
                use_cache=True,
                kv_cache=cache,
            )
        return hidden


def _device_of(module: nn.Module) -> torch.device:
    """The device of its weights. Packed linear layers have no parameters, and exist on the CPU only."""
    weight = next(module.parameters(), None)
    return torch.device("cpu") if weight is None else weight.device


def _on(module: nn.Module, device: torch.device) -> nn.Module:
    """The module if it is on the device, else a copy there. Rotary embeddings are small."""
    buffer = next(module.buffers())
    if buffer.device == device:
        return module
    return copy.deepcopy(module).to(device)
