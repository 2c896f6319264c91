"""Places a model's layers and KV cache on GPUs: pure arithmetic over its config, before anything is loaded.

The embedding goes to the first GPU and the head to the last, with the layers in order between them. Of all splits,
the plan takes the one with the most tokens in the KV cache. Every token takes memory in every layer, so the GPU with
the least memory per token limits their number.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.contract.options import DType
from app.models.errors import DoesNotFit
from app.models.parameter_count import Sizes, sizes_of
from app.models.units import GIB, gib
from app.settings import Settings

CPU_KV_TOKENS = 24_576
"""The KV cache's size without a GPU, where KV_TOKENS is 0. It is smaller where the memory is too small for that."""

CPU_WORKING_MEMORY = 800_000_000
"""Bytes that a server without a GPU needs at most beside weights and KV cache: interpreter, libraries, compiled
kernels, a step's tensors. 680 MB were measured; `make bench ONLY=memory` compares."""

LEAST_KV_TOKENS = 2048
"""A model that leaves less for the KV cache is refused: it could hardly hold one request."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as torch counts them. `total` and `free` are bytes."""

    index: int
    name: str
    total: int
    free: int
    capability: tuple[int, int] | None = None  # CUDA's compute capability
    uuid: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One GPU's part of a model; every size is in bytes."""

    gpu: Gpu
    modules: tuple[str, ...]
    layers: range
    weights: int
    kv: int  # what is left for the KV cache
    kv_per_token: int
    reserve: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a model goes. Without GPUs there are no shares, and everything is in the machine's memory."""

    parameters: int
    weights: int  # bytes
    kv_per_token: int  # bytes over all layers
    kv_tokens: int  # tokens that fit the KV cache, over all sequences together
    shares: tuple[Share, ...]

    @property
    def device_map(self) -> dict[str, int]:
        """Module name to GPU, as transformers' `from_pretrained` takes it. Empty without GPUs."""
        return {module: share.gpu.index for share in self.shares for module in share.modules}

    @property
    def max_memory(self) -> dict[int, int]:
        """Most bytes of weights per GPU, as accelerate takes it. Empty without GPUs."""
        return {share.gpu.index: share.gpu.free - share.reserve for share in self.shares}

    @property
    def gpus(self) -> tuple[Gpu, ...]:
        """Those that hold a part of the model. Empty without GPUs."""
        return tuple(share.gpu for share in self.shares if share.modules)

    def requests_of(self, tokens: int) -> int:
        """How many requests of this length, prompt and answer together, fit at once."""
        return self.kv_tokens // tokens


@dataclass(frozen=True, slots=True)
class _Block:
    """Modules that must be on the same GPU. Sizes in bytes."""

    modules: tuple[str, ...]
    weights: int
    kv_per_token: int = 0

    def needs(self, tokens: int) -> int:
        return self.weights + tokens * self.kv_per_token


def plan_for(settings: Settings, config: Mapping[str, Any], gpus: Sequence[Gpu], memory: int) -> Plan:
    """The plan that the settings ask for: over `gpus`, or without any within `memory` bytes of the machine.

    Raises DoesNotFit, UnknownArchitecture.
    """
    if gpus:
        size = 4 if settings.dtype is DType.FLOAT32 else 2
        return plan(config, gpus, reserve_gib=settings.gpu_reserve, dtype_bytes=size)
    size = 4 if settings.dtype in {DType.AUTO, DType.FLOAT32} else 2
    return plan_cpu(config, available=memory, kv_tokens=settings.kv_tokens, dtype_bytes=size)


def plan(config: Mapping[str, Any], gpus: Sequence[Gpu], *, reserve_gib: float, dtype_bytes: int = 2) -> Plan:
    """The split over `gpus`, in their order, with the largest KV cache.

    `reserve_gib` stays free on each GPU for the CUDA context and activations. Raises DoesNotFit,
    UnknownArchitecture.
    """
    if not gpus:
        raise DoesNotFit("no GPU is visible")
    sizes = sizes_of(config)
    reserve = round(reserve_gib * GIB)
    blocks = _blocks(sizes, dtype_bytes)
    budgets = [max(0, gpu.free - reserve) for gpu in gpus]
    if sum(len(part) for part in _fill(blocks, budgets, LEAST_KV_TOKENS)) < len(blocks):
        raise DoesNotFit(_missing(blocks, gpus, budgets, reserve))
    parts = _fill(blocks, budgets, _most_tokens(blocks, budgets))
    shares = tuple(_share(gpu, part, budget, reserve) for gpu, part, budget in zip(gpus, parts, budgets, strict=True))
    fits = min(share.kv // share.kv_per_token for share in shares if share.kv_per_token)
    return _total(sizes, dtype_bytes, fits, shares)


def plan_cpu(config: Mapping[str, Any], *, available: int, kv_tokens: int = 0, dtype_bytes: int = 4) -> Plan:
    """Everything in the machine's memory, of which this process may take `available` bytes.

    `kv_tokens` 0: CPU_KV_TOKENS, or what fits. Raises DoesNotFit, UnknownArchitecture.
    """
    sizes = sizes_of(config)
    most = _total(sizes, dtype_bytes, kv_tokens or CPU_KV_TOKENS, ())
    beside = most.weights + CPU_WORKING_MEMORY
    fits = max(0, available - beside) // most.kv_per_token
    if fits >= (kv_tokens or LEAST_KV_TOKENS):
        return replace(most, kv_tokens=min(most.kv_tokens, fits))
    tokens = kv_tokens or LEAST_KV_TOKENS
    cache = tokens * most.kv_per_token
    raise DoesNotFit(
        f"{gib(most.weights)} of weights, {gib(cache)} for a KV cache of {tokens:,} tokens and "
        f"{gib(CPU_WORKING_MEMORY)} to work in need {gib(beside + cache)} of memory; {gib(available)} are free, "
        f"{gib(beside + cache - available)} are missing"
    )


def _total(sizes: Sizes, dtype_bytes: int, kv_tokens: int, shares: tuple[Share, ...]) -> Plan:
    return Plan(
        parameters=sizes.parameters,
        weights=sizes.parameters * dtype_bytes,
        kv_per_token=len(sizes.layers) * sizes.kv_elements * dtype_bytes,
        kv_tokens=kv_tokens,
        shares=shares,
    )


def _blocks(sizes: Sizes, dtype_bytes: int) -> list[_Block]:
    tied = sizes.head == 0  # then both are one tensor, on one GPU
    first = ("model.embed_tokens", "model.rotary_emb") + (("lm_head",) if tied else ())
    last = ("model.norm",) + (() if tied else ("lm_head",))
    return [
        _Block(first, sizes.embedding * dtype_bytes),
        *(
            _Block((f"model.layers.{number}",), layer * dtype_bytes, sizes.kv_elements * dtype_bytes)
            for number, layer in enumerate(sizes.layers)
        ),
        _Block(last, (sizes.norm + sizes.head) * dtype_bytes),
    ]


def _fill(blocks: Sequence[_Block], budgets: Sequence[int], tokens: int) -> list[list[_Block]]:
    """The blocks of each GPU, in order, for a KV cache of `tokens` tokens. `budgets` are the GPUs' bytes. Blocks that
    do not fit are left out."""
    parts, rest = [], list(blocks)
    for budget in budgets:
        part: list[_Block] = []
        used = 0
        while rest and used + rest[0].needs(tokens) <= budget:
            block = rest.pop(0)
            used += block.needs(tokens)
            part.append(block)
        parts.append(part)
    return parts


def _most_tokens(blocks: Sequence[_Block], budgets: Sequence[int]) -> int:
    """The most KV tokens with which every block fits, by bisection: more tokens never make it easier."""
    fits, too_many = LEAST_KV_TOKENS, sum(budgets) // sum(block.kv_per_token for block in blocks) + 1
    while too_many - fits > 1:
        tokens = (fits + too_many) // 2
        if sum(len(part) for part in _fill(blocks, budgets, tokens)) == len(blocks):
            fits = tokens
        else:
            too_many = tokens
    return fits


def _share(gpu: Gpu, part: Sequence[_Block], budget: int, reserve: int) -> Share:
    modules = tuple(module for block in part for module in block.modules)
    layers = [int(module.rpartition(".")[2]) for module in modules if module.startswith("model.layers.")]
    weights = sum(block.weights for block in part)
    return Share(
        gpu=gpu,
        modules=modules,
        layers=range(layers[0], layers[-1] + 1) if layers else range(0),
        weights=weights,
        kv=budget - weights,
        kv_per_token=sum(block.kv_per_token for block in part),
        reserve=reserve,
    )


def _missing(blocks: Sequence[_Block], gpus: Sequence[Gpu], budgets: Sequence[int], reserve: int) -> str:
    parts = _fill(blocks, budgets, LEAST_KV_TOKENS)
    left = blocks[sum(len(part) for part in parts) :]
    usable = ", ".join(f"GPU {gpu.index} {gib(budget)}" for gpu, budget in zip(gpus, budgets, strict=True))
    needed, budget = sum(block.needs(LEAST_KV_TOKENS) for block in blocks), sum(budgets)
    short = sum(block.needs(LEAST_KV_TOKENS) for block in left)
    last = gpus[-1].index
    return (
        f"{gib(sum(block.weights for block in blocks))} of weights with a KV cache of {LEAST_KV_TOKENS:,} tokens "
        f"need {gib(needed)}; usable, after {gib(reserve)} in reserve on each GPU, are {gib(budget)} ({usable}). "
        f"Missing on GPU {last}: {gib(short)} for {left[0].modules[0]} to {left[-1].modules[-1]}"
    )
