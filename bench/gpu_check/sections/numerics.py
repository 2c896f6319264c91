"""What the loaded model's attention and the sampler compute, against float64 and against the CPU.

Attention is the product's own path over pages: rows of decode steps and prompt chunks of the model's first layer,
with queries and pages at random. What lies behind every length is not a number.
"""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from app.contract.events import TokenEvent
from app.contract.requests import SamplingParams
from app.engine.attention.cache import KvCache
from app.engine.attention.mla import absorb
from app.engine.attention.step import Row as StepRow
from app.engine.attention.step import Span, Step
from app.engine.execution.decoder import Decoder
from app.engine.kv.pages import PAGE_SIZE
from app.engine.sampling.sampler import Sampler, SamplingState
from bench.gpu_check.bench import Bench
from bench.gpu_check.checkpoint import random_model
from bench.gpu_check.report import Row

CHUNKS = ((1, 16), (1, 2047), (1, 32_768), (8, 2048), (64, 515), (170, 8192), (512, 512), (512, 2047), (512, 32_768))
"""(queries, tokens that the last of them sees)."""

SMALL_CHUNKS = ((1, 16), (8, 100), (64, 129))

BOUND = {torch.float32: 1e-4, torch.bfloat16: 0.02}

DRAWS, ROWS = 10_000, 500

AGREE = 0.995
"""Draws that must be the CPU's. A running sum over 102,400 probabilities rounds differently on a GPU, which moves the
boundary between two tokens; with scores at random, flatter than a model's, 25 of 10,000 differed on an H100."""


@torch.inference_mode()
def numerics(bench: Bench) -> Iterator[Row]:
    decoder = bench.decoder or _one_layer(bench)
    for queries, length in CHUNKS if bench.gpus else SMALL_CHUNKS:
        error = _attention_error(decoder, queries, length)
        name = f"attention over pages, {queries} x {length}"
        yield Row(name, error, ok=error < BOUND[bench.dtype], note="by the norm, to float64")
    yield _draws(bench)


def _one_layer(bench: Bench) -> Decoder:
    """The model's first layer alone: a load that failed or was left out does not hide what attention computes."""
    config = copy.deepcopy(bench.config)
    config.num_hidden_layers = 1
    model = random_model(config, bench.device, bench.dtype)
    absorb(model)
    return Decoder(model)


def _attention_error(decoder: Decoder, queries: int, length: int) -> float:
    layer: Any = decoder._layers[0].self_attn  # noqa: SLF001  # its own path, on purpose
    device = layer.kv_b_proj.weight.device
    pages = -(-length // PAGE_SIZE)
    cache = KvCache(decoder.backend, [device], pages, PAGE_SIZE)
    storage: Tensor = cache.storage(layer.layer_idx)
    table = torch.randperm(pages).tolist()
    rows = torch.randn(length, storage.shape[-1], device=device).to(storage.dtype)
    storage.fill_(float("nan"))
    places = [table[place // PAGE_SIZE] * PAGE_SIZE + place % PAGE_SIZE for place in range(length)]
    storage.view(-1, storage.shape[-1])[torch.tensor(places, device=device)] = rows
    start = length - queries
    decode = (StepRow(table, length),) if queries == 1 else ()
    spans = () if queries == 1 else (Span(table, start, length, slice(0, queries)),)
    cache.begin(Step([0] * queries, list(range(start, length)), places[start:], decode, spans, (), [0]))
    query = torch.randn(1, layer.num_heads, queries, layer.qk_head_dim, device=device).to(storage.dtype)
    expected = _exact(layer, query[0], rows)
    output = layer._attend_pages(query, cache)[0].double()  # noqa: SLF001  # likewise
    return float((output - expected).norm() / expected.norm())


def _exact(layer: Any, query: Tensor, rows: Tensor) -> Tensor:
    """The paper's formula, head by head, in float64: `[queries, h * v]`."""
    latent, rope = torch.split(rows.double(), [layer.kv_lora_rank, layer.qk_rope_head_dim], dim=-1)
    weights = layer.kv_b_proj.weight.double().view(layer.num_heads, -1, layer.kv_lora_rank)
    queries, length = query.shape[1], len(rows)
    hidden = ~torch.ones(queries, length, dtype=torch.bool, device=rows.device).tril(length - queries)
    heads = []
    for head, weight in enumerate(weights):
        key, value = torch.split(latent @ weight.T, [layer.qk_nope_head_dim, layer.v_head_dim], dim=-1)
        scores = query[head].double() @ torch.cat((key, rope), dim=-1).T * layer.scaling
        heads.append(scores.masked_fill_(hidden, float("-inf")).softmax(-1) @ value)
    return torch.cat(heads, dim=-1)


def _draws(bench: Bench) -> Row:
    """The same requests with the same scores, sampled on the device and on the CPU."""
    size = bench.config.vocab_size
    kinds: list[dict[str, Any]] = [{}, {"top_p": 0.9}, {"top_k": 5}, {"top_k": 40, "top_p": 0.95}, {"min_p": 0.05}]
    params = [SamplingParams(seed=row, temperature=0.8, **kinds[row % len(kinds)]) for row in range(ROWS)]
    agreed = total = 0
    ours, theirs = ([SamplingState(each, []) for each in params] for _ in range(2))
    on_device, on_cpu = Sampler(), Sampler()
    for _ in range(DRAWS // ROWS if bench.gpus else 2):
        scores = (torch.randn(ROWS, size) * 3).to(bench.dtype)
        pairs = zip(on_device.sample(scores.to(bench.device), ours), on_cpu.sample(scores, theirs), strict=True)
        for one, other in pairs:
            total += 1
            agreed += isinstance(one, TokenEvent) and isinstance(other, TokenEvent) and one.token == other.token
    return Row("draws that are the CPU's", f"{agreed} of {total}", ok=agreed >= AGREE * total)
