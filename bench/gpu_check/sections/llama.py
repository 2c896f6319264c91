"""A Llama of SmolLM2-135M's dimensions with random weights, through the product's decoder.

In float32 its greedy answers against `generate`; in bfloat16 the time of a decode step, and its launches.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from app.contract.options import DType
from app.models.catalogue import EMBEDDED
from app.settings import Settings
from bench.gpu_check.answers import Stock, loaded_beside, said, widen
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import save
from bench.gpu_check.driven import Driven
from bench.gpu_check.report import Row
from bench.gpu_check.sections.profile import MOST_IN_A_LAYER, device_time, in_a_layer

SMALL: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 96,
    "intermediate_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
"""Replaces the real dimensions on a CPU."""

EXACT_LAYERS = 4
LENGTHS, SMALL_LENGTHS = (1, 31, 33, 300, 1000), (1, 31, 33, 200)
NEW = 24
CASES, SMALL_CASES = ((1, 2048), (32, 2048)), ((1, 64),)
"""(sequences, tokens of context) of decode steps."""

SEQUENCES, KV_TOKENS = 32, 120_000
"""Enough for the longest of the cases, and for what the first sequences generate until the last one decodes."""

STEPS = 30
"""Of one measurement."""


@torch.inference_mode()
def llama(bench: Bench) -> Iterator[Row]:
    config = config_for(on_gpu=bool(bench.gpus))
    with TemporaryDirectory(dir=bench.folder.parent) as folder:
        yield from _answers(bench, config, Path(folder))
    bench.free_memory()
    with TemporaryDirectory(dir=bench.folder.parent) as folder:
        save(_random(config, bench, bench.dtype), Path(folder))
        dtype, tokens = (DType.AUTO, KV_TOKENS) if bench.gpus else (DType.FLOAT32, 4096)
        settings = Settings(dtype=dtype, max_sequences=SEQUENCES, kv_tokens=tokens)
        yield from _steps(loaded_beside(bench, config, Path(folder), settings))
    bench.free_memory()


def config_for(*, on_gpu: bool) -> LlamaConfig:
    values = {key: value for key, value in EMBEDDED.config().items() if key != "model_type"}
    values |= {"tie_word_embeddings": False}  # with random weights a tied head repeats its token
    return LlamaConfig(**(values if on_gpu else values | SMALL))


def _random(config: LlamaConfig, bench: Bench, dtype: torch.dtype) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
    return model.eval().requires_grad_(requires_grad=False).to(bench.device, dtype)


def _answers(bench: Bench, config: LlamaConfig, folder: Path) -> Iterator[Row]:
    few = LlamaConfig(**(config.to_dict() | {"num_hidden_layers": EXACT_LAYERS}))
    model = _random(few, bench, torch.float32)
    widen(model)
    save(model, folder)
    del model
    settings = Settings(dtype=DType.FLOAT32, prefill_chunk=128, kv_tokens=8192)
    stock, loaded = Stock(bench, folder), loaded_beside(bench, few, folder, settings)
    driven = Driven(loaded, seed=6)
    prompts = {f"{n} tokens": driven.prompt(n) for n in (LENGTHS if bench.gpus else SMALL_LENGTHS)}
    for name, prompt in prompts.items():
        driven.submit(name, prompt, NEW)
    driven.run()
    wrong = stock.differing(prompts, driven.tokens, NEW)
    right = f"{len(prompts) - len(wrong)} of {len(prompts)}"
    ours = _ours(loaded)
    note = said(wrong, f"{ours} of {EXACT_LAYERS} layers in few operations; {loaded.loaded.backend.name}")
    ok = not wrong and ours == (EXACT_LAYERS if bench.gpus else 0)
    yield Row("Llama: answers as generate's, float32", right, ok=ok, note=note)


def _ours(loaded: Bench) -> int:
    """The layers that our kernels compute."""
    segments = loaded.loaded.segments
    return sum(len(each.layers) for each in segments if type(each.run).__name__ == "FewOperations")


def _steps(loaded: Bench) -> Iterator[Row]:
    if loaded.gpus:
        ours = _ours(loaded)
        yield Row("Llama: layers in few operations", str(ours), ok=ours == loaded.config.num_hidden_layers)
    driven = Driven(loaded)
    for batch, context in CASES if loaded.gpus else SMALL_CASES:
        driven.decode_together(batch, context, STEPS)
        step = loaded.median_ms(driven.step, tries=20, warm=5)
        driven.cancel_all()
        floor = _bytes(loaded, batch, context) / loaded.ceiling_bytes * 1000
        note = f"{batch / step * 1000:.0f} tokens/s; {step / floor:.1f}x the floor of {floor:.2f}"
        yield Row(f"Llama: decode step, batch {batch}, context {context}", step, "ms", note=note)
    yield _launches(loaded, driven)


def _bytes(loaded: Bench, batch: int, context: int) -> float:
    """That a step has to read. Of the embedding it reads one row for each token."""
    config, decoder = loaded.config, loaded.loaded
    embedding = config.vocab_size * config.hidden_size * loaded.dtype.itemsize
    token = 2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * loaded.dtype.itemsize
    return float(decoder.weight_bytes - embedding + batch * context * token)


def _launches(loaded: Bench, driven: Driven) -> Row:
    """Of one layer in a step without a graph."""
    name = "Llama: one decode step, eager: in a layer"
    if not loaded.gpus:
        return Row(name, "left out", note="counted on GPUs only")
    driven.executor.graphs = None
    driven.decode_together(1, 512, STEPS)
    for _ in range(5):
        driven.step()
    loaded.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profiler:
        driven.step()
        loaded.synchronize()
    driven.cancel_all()
    launched = device_time(profiler)[2]
    layer = in_a_layer(profiler.events()) or -(-launched // loaded.config.num_hidden_layers)
    note = f"{launched} launches in the whole step; bound: {MOST_IN_A_LAYER}"
    return Row(name, str(layer), ok=0 < layer <= MOST_IN_A_LAYER, note=note, must=True)
