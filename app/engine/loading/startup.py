"""Loads a model, adapts it, warms it up and checks it, on the inference thread."""

import logging
import time

import torch
from torch import nn

from app.contract.engine import Phase
from app.contract.options import Compile, FlashAttn
from app.contract.telemetry import AttentionChosen, Observers
from app.engine.attention.mla import absorb, use_kernels
from app.engine.attention.prefill import PRODUCTS, flash_attn, settle_sdpa
from app.engine.config import EngineConfig
from app.engine.errors import LoadError
from app.engine.execution.decoder import Decoder
from app.engine.execution.executor import greedy
from app.engine.execution.few_operations import use_few_operations
from app.engine.health import Health
from app.engine.layers import experts
from app.engine.layers.compiling import compile_layers
from app.engine.layers.llama import FusedLlamaLayer, fuse
from app.engine.layers.norms import fuse_norms
from app.engine.layers.packed import can_pack, pack
from app.engine.loading import self_check
from app.engine.loading.compile_caches import use_caches
from app.engine.loading.dtype import choose_dtype
from app.engine.loading.loader import load

_log = logging.getLogger(__name__)


@torch.inference_mode()
def load_decoder(config: EngineConfig, observers: Observers, health: Health) -> Decoder:
    """Load, adapt, warm up, check. Raises LoadError, UnsupportedModel, SelfCheckFailed."""
    dtype = choose_dtype(config.dtype, config.plan.gpus)
    health.enter(Phase.LOADING, f"weights of {config.model.name} in {dtype}")
    if config.compile is Compile.LAYERS and not config.plan.shares:
        raise LoadError("COMPILE=layers is for GPUs: without one the layers are fused already. Set COMPILE=off.")
    if config.plan.shares:
        _use_caches(config)
    begun = time.monotonic()
    model = load(config.folder, dtype, config.plan, health.set_progress)
    loaded = time.monotonic()
    health.enter(Phase.WARMING, "first steps")
    adapted = adapt(model, dtype, on_gpu=bool(config.plan.shares))
    if config.compile is Compile.LAYERS:
        adapted["compiled_modules"] = compile_layers(model)
    attention = choose_attention(model, config.flash_attn, on_gpu=bool(config.plan.shares))
    decoder = Decoder(model, experts.choose(model))
    if config.compile is not Compile.LAYERS:
        adapted["layers_in_few_operations"] = use_few_operations(decoder)
    warm_up(decoder)
    health.enter(Phase.WARMING, "self-check")
    self_check.check(decoder, config.model.name, config.folder)
    _log.info(
        "the model is ready",
        extra={
            "dtype": str(dtype),
            "devices": [str(device) for device in decoder.devices],
            "pages": decoder.backend.name,
            "prefill": attention.prefill,
            "decode": attention.decode,
            **adapted,
            "load_s": round(loaded - begun, 2),
            "warm_s": round(time.monotonic() - loaded, 2),
        },
    )
    observers.notify(attention)
    return decoder


def _use_caches(config: EngineConfig) -> None:
    """Prepare compiling at run time. Raises LoadError where COMPILE=layers needs it and it is not possible."""
    missing = use_caches(config.cache_dir)
    if missing and config.compile is Compile.LAYERS:
        raise LoadError(f"COMPILE=layers cannot compile here: {'; '.join(missing)}. COMPILE=off serves without it.")
    if missing:
        _log.info("nothing can be compiled at run time here", extra={"missing": missing})


def choose_attention(model: nn.Module, wanted: FlashAttn, *, on_gpu: bool) -> AttentionChosen:
    """Choose the attention kernels of an adapted model. Raises LoadError where FLASH_ATTN=build is not possible."""
    if on_gpu:
        settle_sdpa()
        if wanted is FlashAttn.BUILD:
            flash_attn(wanted)  # for every model: a build that took an hour must not be missing silently
    prefill = use_kernels(model, wanted)
    if prefill is not None:
        return AttentionChosen(prefill=prefill, decode="absorbed")
    own = "compiled kernels" if any(type(module) is FusedLlamaLayer for module in model.modules()) else PRODUCTS.name
    return AttentionChosen(prefill=own, decode=own)


def adapt(model: nn.Module, dtype: torch.dtype, *, on_gpu: bool) -> dict[str, int]:
    """Replace modules by faster ones that compute the same. Returns how many of each kind."""
    adapted = {"absorbed_layers": absorb(model)}
    if on_gpu:
        adapted["fused_norms"] = fuse_norms(model)
    else:
        adapted["fused_layers"] = fuse(model)
        adapted["packed_linears"] = pack(model) if can_pack(dtype) else 0
        let_go_of_the_file(model)
    return adapted


def let_go_of_the_file(model: nn.Module) -> None:
    """Copy the parameters that are left. Until then they are parts of a mapped file, which stays in memory whole
    beside the packed weights."""
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


def warm_up(decoder: Decoder) -> None:
    """A few steps of every kind, so that no request waits for what libraries do once."""
    greedy(decoder, [[1] * 48] * 4, 4, chunk=16)
