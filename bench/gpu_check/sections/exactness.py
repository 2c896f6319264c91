"""Four layers in float32: greedy tokens through the engine against `generate` on the same device."""

import copy
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from app.contract.options import DType
from app.engine.health import Health
from app.engine.loading.startup import load_decoder
from app.local_engine import engine_config
from app.models.selection import Selection
from app.settings import Settings
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import random_model, save
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row

LENGTHS = (1, 7, 64, 300, 1500, 33)
SMALL_LENGTHS = (1, 7, 200, 33)
NEW = 24


@torch.inference_mode()
def exactness(bench: Bench) -> Iterator[Row]:
    small = copy.deepcopy(bench.config)
    small.num_hidden_layers = 4
    with TemporaryDirectory(dir=bench.folder.parent) as folder:
        yield from _compare(bench, small, Path(folder))


def _compare(bench: Bench, config: Any, folder: Path) -> Iterator[Row]:
    model = random_model(config, bench.device, torch.float32)
    for name, parameter in model.named_parameters():
        if "norm" not in name:
            parameter.data.mul_(5)  # wide enough that next tokens do not nearly tie
    save(model, folder)
    del model
    stock = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, device_map={"": 0} if bench.gpus else None
    )
    settings = Settings(dtype=DType.FLOAT32, prefill_chunk=128, kv_tokens=32_768)
    small = Bench(bench.gpus[:1], bench.config, bench.note, folder, bench.seconds)
    selection = Selection("exactness", folder, small.gpus, "written for this check")
    small.engine_config = engine_config(settings, selection)
    small.decoder = load_decoder(small.engine_config, bench.observers, Health(bench.observers))
    driven = Driven(small, seed=3)
    lengths = LENGTHS if bench.gpus else SMALL_LENGTHS
    prompts = {str(length): driven.prompt(length) for length in lengths}
    longest = prompts[str(max(lengths))]
    prompts["shares a prefix"] = [*longest[: 2 * len(longest) // 3], 5, 6, 7]
    for name, prompt in prompts.items():
        driven.submit(name, prompt, NEW)
    driven.submit("cancelled", driven.prompt(500), NEW)
    for _ in range(9):
        driven.runner.step()
    driven.runner.cancel("cancelled")
    driven.run()
    driven.submit("again", longest, NEW)
    driven.run()
    prompts["again"] = longest
    wrong = [name for name, prompt in prompts.items() if driven.tokens[name] != _generate(stock, prompt, bench)]
    graphs = driven.executor.graphs
    captured = "eager" if graphs is None else f"captured at {', '.join(map(str, graphs.sizes))} rows"
    yield Row(
        "prompts answered as generate does, float32",
        f"{len(prompts) - len(wrong)} of {len(prompts)}",
        ok=not wrong,
        note=f"differ: {', '.join(wrong)}"
        if wrong
        else f"concurrent, chunked, prefix reuse, one cancelled; {captured}",
        detail={"attention": small.loaded.backend.name},
    )


def _generate(model: Any, prompt: list[int], bench: Bench) -> list[int]:
    ids = torch.tensor([prompt], device=bench.device)
    output = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        min_new_tokens=1,
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    answer: list[int] = output[0, len(prompt) :].tolist()
    return answer
