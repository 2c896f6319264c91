"""Counts what one step launches, in the model's real dimensions, on tensors without memory.

Operations of torch are seen by a dispatch mode. Triton's kernels are recorded and not run. A step that waited for its
device would fail: there is no number to wait for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, DeepseekV2Config
from triton.runtime.interpreter import GridExecutor

from app.engine.attention.backends.on_gpu import TritonHeads, TritonLatents
from app.engine.attention.backends.triton import head_rotation, heads, latents, rotation
from app.engine.attention.mla import AbsorbedAttention, absorb
from app.engine.attention.prefill import TORCH_FLASH
from app.engine.attention.step import Row, Span, Step
from app.engine.attention.stock import NAME, register
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import HeadsShape, LatentShape
from app.engine.layers import deepseek, llama_gpu
from app.engine.layers.experts import OURS, ExpertsPolicy
from app.engine.layers.norms import fuse_norms
from app.models.catalogue import DEEPSEEK

META = torch.device("meta")

_ALLOCATE = {"empty", "empty_strided", "empty_like", "new_empty", "new_empty_strided"}


@dataclass(slots=True)
class Launches:
    """What a step launched, in order: (name, shapes of the tensors or grid)."""

    all: list[tuple[str, Any]] = field(default_factory=list)

    @property
    def in_a_layer(self) -> int:
        """From one layer's kernel that attends to its pages, or stores its rows there, to the next layer's."""
        names = [name for name, _ in self.all]
        mark = "store_kernel" if "store_kernel" in names else "heads_kernel"
        places = [place for place, name in enumerate(names) if name == mark]
        return places[-1] - places[-2]


def configuration() -> DeepseekV2Config:
    """DeepSeek-Coder-V2-Lite's."""
    return DeepseekV2Config(**{key: value for key, value in DEEPSEEK.config().items() if key != "model_type"})


def lite(config: Any) -> Decoder:
    """The decoder as a GPU has it, of a DeepSeek-V2 without memory."""
    model = _without_memory(config)
    absorb(model)
    fuse_norms(model)
    for module in model.modules():
        if isinstance(module, AbsorbedAttention):
            module.prefill = TORCH_FLASH
    decoder = Decoder(model, ExpertsPolicy(config, {1: {OURS: 1.0}}))
    shape = LatentShape(config.kv_lora_rank, config.qk_rope_head_dim)
    decoder.backend = TritonLatents(shape, PAGE_SIZE, torch.bfloat16, latents, rotation)
    (segment,) = decoder.segments
    segment.run = deepseek.FewOperations(segment.layers, decoder.experts)
    return decoder


def llama(config: Any, *, few: bool = True) -> Decoder:
    """The same of a Llama: with its layers in few operations, or by its modules."""
    register()
    model = _without_memory(config, attn_implementation=NAME)
    fuse_norms(model)
    decoder = Decoder(model)
    shape = HeadsShape(config.num_key_value_heads, config.head_dim)
    decoder.backend = TritonHeads(shape, PAGE_SIZE, torch.bfloat16, heads, head_rotation)
    if few:
        (segment,) = decoder.segments
        segment.run = llama_gpu.FewOperations(segment.layers)
    return decoder


def _without_memory(config: Any, **options: Any) -> Any:
    with META:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **options)  # type: ignore[no-untyped-call]  # its own


def decode_step(lengths: list[int]) -> Step:
    """A token of each of so many sequences, which see so many."""
    rows = tuple(Row(list(range(-(-length // PAGE_SIZE))), length) for length in lengths)
    count = len(lengths)
    places = [length - 1 for length in lengths]
    return Step([5] * count, places, places, rows, (), (), list(range(count)))


def prompt_chunk(tokens: int, before: int) -> Step:
    """A chunk behind a context, the last of its prompt."""
    end = before + tokens
    span = Span(list(range(-(-end // PAGE_SIZE))), before, end, slice(0, tokens))
    places = list(range(before, end))
    return Step([5] * tokens, places, places, (), (span,), (), [tokens - 1])


@torch.inference_mode()
def count(decoder: Decoder, step: Step) -> Launches:
    """Raises RuntimeError where a step waits for its device."""
    cache = decoder.new_cache(-(-max(step.positions) // PAGE_SIZE) + 1)
    cache.begin(step)
    tokens = torch.empty(1, len(step.tokens), dtype=torch.long, device=META)
    some = len(step.sampled_rows) < len(step.tokens)
    rows = torch.empty(len(step.sampled_rows), dtype=torch.long, device=META) if some else None
    with _recorded() as launches:
        hidden = decoder.hidden_states(tokens, cache)
        decoder.logits(hidden if rows is None else hidden.index_select(1, rows))
    return launches


@contextmanager
def _recorded() -> Iterator[Launches]:
    launches = Launches()

    def record(executor: Any, *_arguments: Any, **_options: Any) -> None:
        launches.all.append((executor.fn.__name__, executor.grid))

    with mock.patch.object(GridExecutor, "__call__", record), _Seen(launches):
        yield launches


class _Seen(TorchDispatchMode):
    def __init__(self, launches: Launches) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's own
        self._launches = launches

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # torch's signature
        name = func.overloadpacket.__name__
        if not (func.is_view or name in _ALLOCATE or name == "_unsafe_view"):
            shapes = tuple(tuple(each.shape) for each in args if isinstance(each, torch.Tensor))
            self._launches.all.append((name, shapes))
        return func(*args, **(kwargs or {}))
