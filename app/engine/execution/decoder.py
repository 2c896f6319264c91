"""The forward pass of one step through a transformers decoder: embedding, layers, norm and head.

Works for every model of the common shape (`model.embed_tokens`, `.rotary_emb`, `.layers`, `.norm`, `lm_head`)
with its layers on one device or several. The layers of one device are a segment. Between two segments one hidden
state crosses per step or part of one; positions and rotary embeddings are made in each once.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, cast

import torch
from torch import Tensor, nn

from app.engine.attention.cache import KvCache
from app.engine.attention.step import Step
from app.engine.attention.step_parts import parts_of
from app.engine.errors import UnsupportedModel
from app.engine.execution.choose_backend import choose_backend
from app.engine.execution.prompt_scores import PromptScores, prompt_scores
from app.engine.kv.pages import PAGE_SIZE
from app.engine.layers.experts import ExpertsPolicy
from app.engine.layers.packed import PackedLinear
from app.engine.transfer import send


@dataclass(slots=True)
class Segment:
    """Consecutive layers on one device. `run(hidden, rotation, cache)` computes them, `[1, tokens, hidden]` in and
    out."""

    device: torch.device
    layers: Sequence[nn.Module]
    run: Callable[[Tensor, Any, KvCache], Tensor]


class Decoder:
    """`model` is a causal language model whose attention works on pages; `experts` says how its experts are
    computed, if it has any."""

    def __init__(self, model: nn.Module, experts: ExpertsPolicy | None = None) -> None:
        base = getattr(model, "model", None)
        missing = [n for n in ("embed_tokens", "layers", "norm", "rotary_emb") if not hasattr(base, n)]
        if base is None or missing or not hasattr(model, "lm_head"):
            raise UnsupportedModel(f"{type(model).__name__} lacks {', '.join(missing) or 'model or lm_head'}")
        self.experts = experts
        self.parts: Mapping[int, int] = {}  # of steps with prompts, by their rows: `parts.py` chooses them
        self._embed: nn.Module = base.embed_tokens
        self._layers: list[nn.Module] = list(base.layers)
        by_device = [(device, tuple(layers)) for device, layers in groupby(self._layers, key=_device_of)]
        self.segments = [Segment(device, layers, through_modules(layers)) for device, layers in by_device]
        self._norm: nn.Module = base.norm
        self._head = cast("nn.Module", model.lm_head)
        self.layer_devices = [_device_of(layer) for layer in self._layers]
        self._rotary = {device: _on(base.rotary_emb, device) for device in self.devices}
        self.longest = int(model.config.max_position_embeddings)  # type: ignore[union-attr,arg-type]  # transformers'
        self.width = int(model.config.hidden_size)  # type: ignore[union-attr,arg-type]  # transformers'
        self.vocabulary = int(model.config.vocab_size)  # type: ignore[union-attr,arg-type]  # likewise
        self.dtype = next(iter(base.norm.parameters())).dtype
        self.backend = choose_backend(model.config, self._layers, self.dtype, self.devices)

    @property
    def devices(self) -> list[torch.device]:
        """Every device that computes, in the order of the steps. The embedding or the head may have one to itself."""
        ends = _device_of(self._norm), _device_of(self._head)
        return list(dict.fromkeys((self.embed_device, *self.layer_devices, *ends)))

    @property
    def stands_apart(self) -> bool:
        """Whether the embedding, the norm or the head is on another device than the layers beside it."""
        first, last = self.segments[0].device, self.segments[-1].device
        return (self.embed_device, _device_of(self._norm), _device_of(self._head)) != (first, last, last)

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

    def forward(self, step: Step, cache: KvCache) -> tuple[Tensor, PromptScores]:
        """Compute one step: the logits of its sampled rows, `[n, vocabulary]`, and the log-probabilities of its
        prompts' tokens, where they are wanted."""
        parts = [self._behind_layers(part, cache) for part in parts_of(step, self.parts)]
        hidden = torch.cat([rows for rows, _ in parts], dim=1) if len(parts) > 1 else parts[0][0]
        return self.logits(hidden), [score for _, scores in parts for score in scores]

    def _behind_layers(self, step: Step, cache: KvCache) -> tuple[Tensor, PromptScores]:
        """The hidden states of the sampled rows, `[1, n, hidden]`, and the log-probabilities. The host does not wait
        for the first: it launches the next part meanwhile."""
        cache.begin(step)
        (tokens,) = send(self.embed_device, [step.tokens])
        hidden = self.hidden_states(tokens.unsqueeze(0), cache)
        scores = prompt_scores(hidden, step.scored, self.logits, self.vocabulary)
        if len(step.sampled_rows) < len(step.tokens):
            (rows,) = send(hidden.device, [step.sampled_rows])
            hidden = hidden.index_select(1, rows)
        return hidden, scores

    def hidden_states(self, tokens: Tensor, cache: KvCache) -> Tensor:
        """Behind the last layer, `[1, tokens, hidden]`, of `tokens` `[1, tokens]`, by the cache's plans."""
        value = tokens
        for number in range(len(self.segments)):
            value = self.through(number, value, cache)
        return value

    def stage(self, number: int, value: Tensor, cache: KvCache) -> Tensor:
        """What a decode step does in one segment: from tokens in the first and from a hidden state in the others, to
        the logits of all rows in the last and to a hidden state in the others."""
        hidden = self.through(number, value, cache)
        return hidden if number + 1 < len(self.segments) else self.logits(hidden)

    def logits(self, hidden: Tensor) -> Tensor:
        """`[n, vocabulary]` of hidden states `[1, n, hidden]`."""
        hidden = self._norm(hidden.to(_device_of(self._norm)))
        logits: Tensor = self._head(hidden.to(_device_of(self._head)))[0]
        return logits

    def through(self, number: int, value: Tensor, cache: KvCache) -> Tensor:
        """The hidden state behind one segment: from tokens in the first, from a hidden state in the others."""
        segment = self.segments[number]
        if self.experts is not None:
            self.experts.apply(value.shape[1])
        hidden = (value if number else self._embed(value)).to(segment.device)
        rotation = self._rotary[segment.device](hidden, position_ids=cache.plans[segment.device].position_ids)
        return segment.run(hidden, rotation, cache)


def through_modules(layers: Sequence[nn.Module]) -> Callable[[Tensor, Any, KvCache], Tensor]:
    """A segment's `run`, layer by layer as transformers has them."""

    def run(hidden: Tensor, rotation: Any, cache: KvCache) -> Tensor:
        for layer in layers:
            hidden = layer(
                hidden, position_embeddings=rotation, past_key_values=cache, use_cache=True, kv_cache=cache
            )
        return hidden

    return run


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
