"""The local engine of the settings: the model's plan, and the few settings that the engine reads."""

from app.contract.engine import Capacity
from app.contract.telemetry import Observers
from app.engine.config import EngineConfig
from app.engine.local import LocalEngine
from app.models.driver import available_memory
from app.models.info import read_config, read_model_info
from app.models.placement import plan_for
from app.models.selection import Selection
from app.settings import Settings


def local_engine(settings: Settings, selection: Selection, observers: Observers) -> LocalEngine:
    """Not started yet. Raises as `engine_config` does."""
    return LocalEngine(engine_config(settings, selection), observers)


def engine_config(settings: Settings, selection: Selection) -> EngineConfig:
    """Raises ModelNotAvailable, DoesNotFit, UnknownArchitecture."""
    plan = plan_for(settings, read_config(selection.folder), selection.gpus, available_memory())
    wanted = settings.kv_tokens or plan.kv_tokens
    return EngineConfig(
        model=read_model_info(selection.folder, selection.name),
        folder=selection.folder,
        plan=plan,
        capacity=Capacity(settings.max_sequences, min(wanted, plan.kv_tokens)),
        dtype=settings.dtype,
        compile=settings.compile,
        flash_attn=settings.flash_attn,
        cache_dir=settings.cache_dir,
        prefill_chunk=settings.prefill_chunk,
        share_prefixes=settings.share_prefixes,
        cleanup=settings.cleanup,
        stall_deadline=settings.stall_deadline,
    )
