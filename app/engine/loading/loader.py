"""Loads weights from a folder onto their devices, on the thread that will run them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from accelerate.hooks import remove_hook_from_module
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from app.engine.attention import stock
from app.engine.errors import LoadError
from app.models.placement import Plan

Progress = Callable[[float], None]
"""Called with the share of the weights that is loaded, 0 to 1."""


def load(folder: Path, dtype: torch.dtype, plan: Plan, progress: Progress) -> nn.Module:
    """The model on the plan's devices, ready for inference, with attention over pages of the KV cache.

    Raises LoadError when part of it would spill to the CPU or the disk. Never runs code from the folder.
    """
    # A pool of loading threads would each get an OpenMP pool of its own, and halve the speed of every later step.
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    stock.register()
    previous = transformers_logging.set_tqdm_hook(_reporting(progress))
    try:
        model: nn.Module = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            device_map=plan.device_map or None,
            max_memory=plan.max_memory or None,
            attn_implementation=stock.NAME,
            trust_remote_code=False,
            local_files_only=True,
        )
    finally:
        transformers_logging.set_tqdm_hook(previous)
    refuse_spill(getattr(model, "hf_device_map", {}))
    remove_hooks(model)
    return model.eval().requires_grad_(requires_grad=False)


def remove_hooks(model: nn.Module) -> None:
    """Undo accelerate's dispatch, in place: every module runs its class's own `forward` again.

    Over several devices transformers gives each module a hook that moves its inputs. The decoder moves the one
    hidden state itself; the hooks would move rotary embeddings and masks again for every layer. accelerate's own
    removal leaves the wrapped `forward` behind as an attribute of each instance, where it hides the `forward` of
    any class that the module is given later.
    """
    remove_hook_from_module(model, recurse=True)
    for module in model.modules():
        module.__dict__.pop("forward", None)


def refuse_spill(device_map: Mapping[str, Any]) -> None:
    """Raise LoadError when part of the model is on the CPU or the disk although it was placed on GPUs."""
    spilled = sorted(name for name, device in device_map.items() if str(device) in {"cpu", "disk"})
    if spilled and len(device_map) > 1:
        raise LoadError(
            f"{', '.join(spilled)} did not fit the GPUs and would run from the CPU or the disk. "
            "`python -m app plan` shows what fits; lower GPU_RESERVE or use larger GPUs."
        )


def _reporting(progress: Progress) -> Callable[..., Any]:
    """A hook for transformers' progress bars that reports instead of drawing."""

    def hook(_factory: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return _Reporter(args[0] if args else kwargs.get("iterable", ()), progress)

    return hook


class _Reporter:
    """What transformers uses of a progress bar."""

    def __init__(self, items: Any, progress: Progress) -> None:
        self._items = list(items)
        self._progress = progress

    def __iter__(self) -> Any:
        for done, item in enumerate(self._items, start=1):
            yield item
            self._progress(done / len(self._items))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, _steps: int = 1) -> None: ...

    def close(self) -> None: ...

    def set_postfix(self, *_: object, **__: object) -> None: ...
