"""The local engine of the settings: the model's plan, and the few settings that the engine reads."""

from app.contract.engine import Capacity
from app.contract.telemetry import Observers
from app.engine.config import EngineConfig
from app.engine.local import LocalEngine
from app.models.info import read_config, read_model_info
from app.models.memory import available_memory
from app.models.placement import Plan, plan_for
from app.models.selection import Selection
from app.settings import Settings

CPU_SEQUENCES = 32
"""Most requests that run at once without a GPU, where MAX_SEQUENCES is 0."""

_EXPECTED_TOKENS = 4096
"""A conversation with code in it, prompt and answer together. Those that grow longer are preempted, not refused."""

_FEWEST_SEQUENCES, MOST_SEQUENCES = 8, 128
"""On GPUs. From about 32 rows on a step reads every expert, so more rows are nearly free; the logits of 128 take
52 MB in float32. That is arithmetic: the best bound was not measured."""


def local_engine(settings: Settings, selection: Selection, observers: Observers) -> LocalEngine:
    """Not started yet. Raises as `engine_config` does."""
    return LocalEngine(engine_config(settings, selection), observers)


def engine_config(settings: Settings, selection: Selection) -> EngineConfig:
    """Raises ModelNotAvailable, DoesNotFit, UnknownArchitecture."""
    plan = plan_for(settings, read_config(selection.folder), selection.gpus, available_memory())
    kv_tokens = min(settings.kv_tokens or plan.kv_tokens, plan.kv_tokens)
    return EngineConfig(
        model=read_model_info(selection.folder, selection.name),
        folder=selection.folder,
        plan=plan,
        capacity=Capacity(settings.max_sequences or most_sequences(plan, kv_tokens), kv_tokens),
        dtype=settings.dtype,
        compile=settings.compile,
        flash_attn=settings.flash_attn,
        cache_dir=settings.cache_dir,
        prefill_chunk=settings.prefill_chunk,
        share_prefixes=settings.share_prefixes,
        cleanup=settings.cleanup,
        stall_deadline=settings.stall_deadline,
    )


def most_sequences(plan: Plan, kv_tokens: int) -> int:
    """Most requests that run at once, where the operator leaves it to us."""
    if not plan.gpus:
        return CPU_SEQUENCES
    return min(MOST_SEQUENCES, max(_FEWEST_SEQUENCES, kv_tokens // _EXPECTED_TOKENS))
