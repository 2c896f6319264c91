"""What the inference thread is told at its start."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.contract.engine import Capacity, ModelInfo
from app.contract.telemetry import Observers
from app.models.driver import available_memory
from app.models.info import read_config, read_model_info
from app.models.placement import Gpu, Plan, plan_for
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Brief:
    settings: Settings
    folder: Path  # the model's files
    info: ModelInfo
    plan: Plan
    observers: Observers

    @property
    def capacity(self) -> Capacity:
        """What the plan leaves room for, or less if the settings say so."""
        wanted = self.settings.kv_tokens or self.plan.kv_tokens
        return Capacity(self.settings.max_sequences, min(wanted, self.plan.kv_tokens))


def brief_for(settings: Settings, name: str, folder: Path, observers: Observers, gpus: Sequence[Gpu] = ()) -> Brief:
    """The brief for a model on these GPUs, without any on the CPU. Raises DoesNotFit, UnknownArchitecture."""
    info = read_model_info(folder, name)
    plan = plan_for(settings, read_config(folder), gpus, available_memory())
    return Brief(settings, folder, info, plan, observers)
