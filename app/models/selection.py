"""Selects the model that is served, and its GPUs: one rule for the app's start, the command line and `make doctor`.

Where the GPUs are large enough for the wanted model and cannot be used, the start ends with the reason: a machine
with two large GPUs must not silently serve a small model on its CPU. Where they are too small, MODEL=auto serves the
embedded model and gives the reason.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from app.models.catalogue import CATALOGUE, DEEPSEEK, EMBEDDED, local_folder
from app.models.errors import DoesNotFit, GpusUnusable, ModelNotAvailable
from app.models.gpus import Gpus, find_gpus
from app.models.info import read_config
from app.models.manifest import is_complete
from app.models.memory import available_memory, total_memory
from app.models.placement import Gpu, Plan, plan_for
from app.models.units import gib
from app.settings import Settings

AUTO = "auto"
_SMALL = f"MODEL={EMBEDDED.name} serves the small model on purpose."


@dataclass(frozen=True, slots=True)
class Selection:
    """The model to serve, the folder with its files, the GPUs that it runs on (none: the CPU), and the reason."""

    name: str
    folder: Path
    gpus: tuple[Gpu, ...]
    reason: str


def select_model(settings: Settings) -> Selection:
    """What the MODEL setting means on this machine. Raises ModelNotAvailable, DoesNotFit, UnknownArchitecture,
    SettingsError."""
    selection = select(settings, find_gpus())
    if settings.model in {AUTO, *CATALOGUE} and not is_complete(selection.folder):
        raise ModelNotAvailable(
            f"{selection.name} was chosen ({selection.reason}), and is not in {settings.models_dir}. "
            f"Fetch it: python -m app models fetch {selection.name}"
        )
    return selection


def select_for_next_start(settings: Settings) -> Selection:
    """What the next start will serve. It counts all memory as free, because a running stack frees its own first, and
    the model's files may still be missing. Raises as `select_model` does."""
    return select(settings, find_gpus().emptied(), total_memory())


def select(settings: Settings, gpus: Gpus, memory: int | None = None) -> Selection:
    """The rule. `memory` is what a model on the CPU may take, in bytes; None: what is free now. Raises as
    `select_model` does."""
    memory = available_memory() if memory is None else memory
    if settings.model == AUTO:
        return _automatic(settings, gpus, memory)
    if settings.model == EMBEDDED.name:
        return _embedded(settings, gpus, memory, "MODEL names it")
    return _named(settings, gpus, memory)


def _automatic(settings: Settings, gpus: Gpus, memory: int) -> Selection:
    if not (gpus.seen or gpus.usable or gpus.broken):
        return _embedded(settings, gpus, memory, f"no GPU is visible: {gpus.problem}")
    config = DEEPSEEK.config()
    try:
        plan = _over(settings, config, gpus.usable)
    except DoesNotFit as error:
        _refuse_what_could_hold(settings, DEEPSEEK.name, config, gpus)
        return _embedded(settings, gpus, memory, f"{DEEPSEEK.name} does not fit the visible GPUs: {error}")
    free = " + ".join(gib(gpu.free) for gpu in gpus.usable)
    reason = f"it fits the visible GPUs ({free} free), with room for {plan.kv_tokens:,} tokens{_beside(gpus)}"
    return Selection(DEEPSEEK.name, settings.models_dir / DEEPSEEK.name, gpus.usable, reason)


def _embedded(settings: Settings, gpus: Gpus, memory: int, reason: str) -> Selection:
    """On the GPUs if they can be used and have the memory, else on the CPU: the small model runs anywhere."""
    folder, config = settings.models_dir / EMBEDDED.name, EMBEDDED.config()
    try:
        if gpus.usable:
            _over(settings, config, gpus.usable)
            return Selection(EMBEDDED.name, folder, gpus.usable, f"{reason}{_beside(gpus)}")
    except DoesNotFit as error:
        reason = f"{reason}; on the CPU, because it does not fit the visible GPUs: {error}"
    else:
        if gpus.seen or gpus.broken:
            reason = f"{reason}; on the CPU, because the GPUs cannot be used: {gpus.problem}"
    plan_for(settings, config, (), memory)
    return Selection(EMBEDDED.name, folder, (), reason)


def _named(settings: Settings, gpus: Gpus, memory: int) -> Selection:
    """The model that MODEL names: on the GPUs, or not at all; on the CPU where the machine has no GPU."""
    if settings.model in CATALOGUE:
        folder = settings.models_dir / settings.model
        config, name = CATALOGUE[settings.model].config(), settings.model
    else:
        folder = local_folder(settings.model)
        config, name = read_config(folder), folder.resolve().name
    if not (gpus.seen or gpus.usable or gpus.broken):
        plan_for(settings, config, (), memory)
        return Selection(name, folder, (), "MODEL names it")
    on_the_cpu = f"To run {name} on the CPU, start with CUDA_VISIBLE_DEVICES set to nothing."
    try:
        _over(settings, config, gpus.usable)
    except DoesNotFit as error:
        _refuse_what_could_hold(settings, name, config, gpus, on_the_cpu)
        raise DoesNotFit(f"{name} does not fit the visible GPUs: {error}. {on_the_cpu}") from None
    return Selection(name, folder, gpus.usable, f"MODEL names it{_beside(gpus)}")


def _over(settings: Settings, config: Mapping[str, Any], gpus: Sequence[Gpu]) -> Plan:
    """The plan over the GPUs. Raises DoesNotFit where there are none: `plan_for` would plan for the CPU."""
    if not gpus:
        raise DoesNotFit("none of them can be used")
    return plan_for(settings, config, gpus, 0)


def _refuse_what_could_hold(
    settings: Settings, name: str, config: Mapping[str, Any], gpus: Gpus, more: str = ""
) -> None:
    """Raises GpusUnusable unless the GPUs that the driver sees would be too small even with all memory free."""
    if not gpus.broken:
        try:
            _over(settings, config, [replace(gpu, free=gpu.total) for gpu in gpus.seen])
        except DoesNotFit:
            return
    problem = gpus.problem or _occupied(gpus)
    raise GpusUnusable(" ".join([f"{name} is not served: {problem.rstrip('.')}.", _SMALL, more]).strip())


def _occupied(gpus: Gpus) -> str:
    taken = ", ".join(f"GPU {gpu.index} {gib(gpu.total - gpu.free)} of {gib(gpu.total)}" for gpu in gpus.usable)
    return f"other programs hold memory of the GPUs ({taken}): end them (`nvidia-smi` lists them) or wait"


def _beside(gpus: Gpus) -> str:
    """A problem that does not end the start, as a part of the reason."""
    return "" if gpus.problem is None else f" (although {gpus.problem})"
