"""Four layers in float32: greedy tokens through the engine against `generate` on the same device."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from app.contract.options import DType
from app.engine.kv.pages import PAGE_SIZE
from app.settings import Settings
from bench.gpu_check.answers import Stock, loaded_beside, said, widen
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import random_model, save
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row

LENGTHS = (1, 7, 64, 300, 1500, 33)
SMALL_LENGTHS = (1, 7, 200, 33)
NEW = 24

SHORT_PROMPTS, SHORT_NEW = (50, 45, 40, 35), 100
"""Two pages each when they come, and five when they end."""

SHORT_PAGES = 12
"""With room for all when they come, and for two when they end."""


@torch.inference_mode()
def exactness(bench: Bench) -> Iterator[Row]:
    small = copy.deepcopy(bench.config)
    small.num_hidden_layers = 4
    with TemporaryDirectory(dir=bench.folder.parent) as folder:
        model = random_model(small, bench.device, torch.float32)
        widen(model)
        save(model, Path(folder))
        del model
        stock = Stock(bench, Path(folder))
        settings = Settings(dtype=DType.FLOAT32, prefill_chunk=128, kv_tokens=32_768)
        loaded = loaded_beside(bench, small, Path(folder), settings)
        yield compared(loaded, stock)
        yield from compared_with_few_pages(loaded, stock)


def compared(loaded: Bench, stock: Stock) -> Row:
    """Answers at the same time, in chunks, with prefixes that are known, one of them cancelled."""
    driven = Driven(loaded, seed=3)
    lengths = LENGTHS if loaded.gpus else SMALL_LENGTHS
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
    wrong = stock.differing(prompts, driven.tokens, NEW)
    graphs = driven.executor.graphs
    captured = "eager" if graphs is None else f"captured at {', '.join(map(str, graphs.sizes))} rows"
    return Row(
        "prompts answered as generate does, float32",
        f"{len(prompts) - len(wrong)} of {len(prompts)}",
        ok=not wrong,
        note=said(wrong, f"concurrent, chunked, prefix reuse, one cancelled; {captured}"),
        detail={"attention": loaded.loaded.backend.name},
    )


def compared_with_few_pages(loaded: Bench, stock: Stock) -> Iterator[Row]:
    """Answers that grow beyond the pages that there are: some lose theirs, and are computed again."""
    driven = Driven(_with_pages(loaded, SHORT_PAGES), seed=4)
    prompts = {f"{length} tokens": driven.prompt(length) for length in SHORT_PROMPTS}
    for name, prompt in prompts.items():
        driven.submit(name, prompt, SHORT_NEW)
    driven.run()
    happened = sum(driven.runner._scheduler.preemptions.values())  # noqa: SLF001  # what it counted
    note = f"{len(prompts)} answers over {SHORT_PAGES} pages"
    yield Row("preemptions", str(happened), ok=happened >= 1, note=note)
    wrong = stock.differing(prompts, driven.tokens, SHORT_NEW)
    right = f"{len(prompts) - len(wrong)} of {len(prompts)}"
    yield Row("answers as generate's, with preemptions", right, ok=not wrong, note=said(wrong, "float32"))


def _with_pages(loaded: Bench, pages: int) -> Bench:
    """The same decoder with another KV cache."""
    capacity = replace(loaded.configured.capacity, kv_tokens=pages * PAGE_SIZE)
    return replace(loaded, engine_config=replace(loaded.configured, capacity=capacity))
