"""Greedy answers of the product's engine on a checkpoint, beside those of transformers' `generate`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM

from app.engine.health import Health
from app.engine.loading.startup import load_decoder
from app.local_engine import engine_config
from app.models.selection import Selection
from app.settings import Settings
from bench.gpu_check.bench import Bench


def widen(model: nn.Module) -> None:
    """Make the weights so wide that next tokens do not nearly tie, in place."""
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data.mul_(5)


def loaded_beside(bench: Bench, config: Any, folder: Path, settings: Settings) -> Bench:
    """The check's first device with the engine's decoder of another checkpoint."""
    other = Bench(bench.gpus[:1], config, bench.note, folder, bench.seconds, bench.ceiling_bytes, bench.ceiling_flops)
    selection = Selection(folder.name, folder, other.gpus, "written for this check")
    other.engine_config = engine_config(settings, selection)
    other.decoder = load_decoder(other.engine_config, other.observers, Health(other.observers))
    return other


class Stock:
    """The same checkpoint in transformers, in float32."""

    def __init__(self, bench: Bench, folder: Path) -> None:
        places = {"": 0} if bench.gpus else None
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map=places)
        self._device = bench.device

    def answer(self, prompt: list[int], new: int) -> list[int]:
        """`new` tokens, whatever they are."""
        ids = torch.tensor([prompt], device=self._device)
        output = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            min_new_tokens=1,
            max_new_tokens=new,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        answer: list[int] = output[0, len(prompt) :].tolist()
        return answer

    def differing(self, prompts: Mapping[str, list[int]], answers: Mapping[str, list[int]], new: int) -> list[str]:
        """The names of those whose answer is another."""
        return [name for name, prompt in prompts.items() if answers[name] != self.answer(prompt, new)]


def said(wrong: Iterable[str], right: str) -> str:
    """The note of a comparison."""
    names = ", ".join(wrong)
    return f"differ: {names}" if names else right
