"""What the local engine is told at its start. `app/local_engine.py` makes it of the settings."""

from dataclasses import dataclass
from pathlib import Path

from app.contract.engine import Capacity, ModelInfo
from app.contract.options import Cleanup, Compile, DType, FlashAttn
from app.models.placement import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    model: ModelInfo
    folder: Path  # the model's files
    plan: Plan
    capacity: Capacity
    dtype: DType
    compile: Compile
    flash_attn: FlashAttn
    cache_dir: Path  # for what is compiled at run time
    prefill_chunk: int  # prompt tokens per step; 0: chosen for the device
    share_prefixes: bool  # between tenants
    cleanup: Cleanup
    stall_deadline: float  # seconds that one step may take
