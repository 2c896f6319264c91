"""The kernels of attention and of experts at the model's real shape, in bfloat16: error to float64, and time.

Memory behind every length is poisoned: a kernel that reads it gives NaN.
"""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from app.engine.attention.backends.latents import LatentsBackend
from app.engine.attention.paged_plan import Group
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import LatentShape
from bench.gpu_check.bench import Bench
from bench.gpu_check.errors import PRODUCTS, relative, worst
from bench.gpu_check.report import Row

HEADS, RANK, ROPE, SCALING = 16, 512, 64, 0.1
CONTEXTS = ((1, 1), (1, 16), (1, 2047), (1, 32_768), (8, 2048), (32, 2048), (64, 515), (512, 515))
"""(rows, tokens of context of the longest; the others have fewer)."""

EXPERTS, CHOSEN, WIDTH, INNER = 64, 6, 2048, 1408
TOKENS = (1, 8, 32, 64, 200, 512)
UNEVEN = (1, 8, 64, 65, 512)
"""Tokens of the choices that leave most experts idle: every form of the kernels."""

CALLS = 20
"""In one measurement: single kernels are shorter than the wait for them."""


def kernels(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("our kernels", "left out", note="measured on GPUs only; make test computes them on the CPU")
        return
    yield from compared(bench)


@torch.inference_mode()
def compared(bench: Bench) -> Iterator[Row]:
    """Every kernel against float64, and its time."""
    for rows, context in CONTEXTS:
        yield _latents(bench, rows, context)
    experts = _experts(bench)
    for tokens in TOKENS:
        yield _chosen(bench, experts, tokens)
    yield from _uneven(bench, experts)


def _latents(bench: Bench, rows: int, context: int) -> Row:
    from app.engine.attention.backends.triton import latents  # noqa: PLC0415  # it needs Triton

    lengths = torch.linspace(context, max(1, context // 3), rows).long().to(bench.device)
    pages = -(-context // PAGE_SIZE)
    tables = torch.randperm(rows * pages, device=bench.device).view(rows, pages)
    storage = torch.randn(rows * pages, PAGE_SIZE, RANK + ROPE, device=bench.device).to(bench.dtype)
    query = torch.randn(HEADS, rows, RANK + ROPE, device=bench.device).to(bench.dtype)
    expected = _exact(query, storage, tables, lengths)
    plain = LatentsBackend(LatentShape(RANK, ROPE), PAGE_SIZE, bench.dtype)
    group = Group(slice(0, rows), tables, lengths)
    usual = _milliseconds(bench, lambda: plain.decode(group, storage, query, SCALING))
    place = torch.arange(pages * PAGE_SIZE, device=bench.device).view(pages, PAGE_SIZE)
    for table, length in zip(tables, lengths, strict=True):
        storage[table] = storage[table].masked_fill((place >= length)[..., None], float("nan"))

    def run() -> Tensor:
        return latents.attend(query[..., :RANK], query[..., RANK:], storage, tables, lengths, scaling=SCALING)

    read = int(lengths.sum()) * (RANK + ROPE) * 2
    return _row(
        bench, f"latent attention, {rows} x {context}", run, expected, read=read, note=f"plain torch {usual:.3f}"
    )


def _exact(query: Tensor, storage: Tensor, tables: Tensor, lengths: Tensor) -> Tensor:
    rows = []
    for number, length in enumerate(lengths.tolist()):
        cached = storage[tables[number]].flatten(0, 1)[:length].double()
        weights = (query[:, number].double() @ cached.T * SCALING).softmax(-1)
        rows.append(weights @ cached[:, :RANK])
    return torch.stack(rows, dim=1)


def _experts(bench: Bench) -> Any:
    """What our kernels and the check below use of transformers' module."""

    def weights(*shape: int) -> Tensor:
        return (torch.randn(*shape, device=bench.device) * 0.02).to(bench.dtype)

    return SimpleNamespace(
        gate_up_proj=weights(EXPERTS, 2 * INNER, WIDTH), down_proj=weights(EXPERTS, WIDTH, INNER), act_fn=nn.SiLU()
    )


def _chosen(bench: Bench, experts: Any, tokens: int) -> Row:
    from app.engine.layers.triton_experts import experts_forward  # noqa: PLC0415  # it needs Triton

    hidden = torch.randn(tokens, WIDTH, device=bench.device).to(bench.dtype)
    chosen = torch.rand(tokens, EXPERTS, device=bench.device).topk(CHOSEN).indices
    shares = torch.rand(tokens, CHOSEN, device=bench.device)

    def run() -> Tensor:
        return experts_forward(experts, hidden, chosen, shares)

    hit = len(set(chosen.flatten().tolist()))
    expected, read = _exact_experts(experts, hidden, chosen, shares), hit * 3 * WIDTH * INNER * 2
    return _row(bench, f"experts, {tokens} tokens", run, expected, read=read, note=f"{hit} experts")


def _uneven(bench: Bench, experts: Any) -> Iterator[Row]:
    """Errors where most experts have no token, and where one has all."""
    from app.engine.layers.triton_experts import experts_forward  # noqa: PLC0415  # it needs Triton

    idle: dict[str, float] = {}
    one: dict[str, float] = {}
    for tokens in UNEVEN:
        hidden = torch.randn(tokens, WIDTH, device=bench.device).to(bench.dtype)
        shares = torch.rand(tokens, CHOSEN, device=bench.device)
        few = torch.rand(tokens, CHOSEN + 1, device=bench.device).topk(CHOSEN).indices
        alone, whole = torch.full((tokens, 1), EXPERTS - 1, device=bench.device), shares[:, :1].contiguous()
        for errors, chosen, counts in ((idle, few, shares), (one, alone, whole)):
            output = experts_forward(experts, hidden, chosen, counts)
            errors[f"{tokens} tokens"] = relative(output, _exact_experts(experts, hidden, chosen, counts))
    yield worst(f"experts, {EXPERTS - CHOSEN - 1} without a token", idle, PRODUCTS[bench.dtype])
    yield worst("experts, all tokens to one", one, PRODUCTS[bench.dtype])


def _exact_experts(experts: Any, hidden: Tensor, chosen: Tensor, shares: Tensor) -> Tensor:
    output = torch.zeros(hidden.shape, dtype=torch.float64, device=hidden.device)
    for expert in set(chosen.flatten().tolist()):
        token, place = torch.where(chosen == expert)
        gate, up = (hidden[token].double() @ experts.gate_up_proj[expert].double().T).chunk(2, dim=-1)
        inner = torch.nn.functional.silu(gate) * up
        added = inner @ experts.down_proj[expert].double().T * shares[token, place, None].double()
        output.index_add_(0, token, added)
    return output


def _row(bench: Bench, name: str, run: Callable[[], Tensor], expected: Tensor, *, read: int, note: str) -> Row:
    """`read`: the bytes that a call has to read."""
    error = relative(run(), expected)
    least = read / bench.ceiling_bytes * 1000
    return Row(
        name,
        _milliseconds(bench, run),
        "ms",
        ok=error < PRODUCTS[bench.dtype],
        note=f"error {error:.1e}; {note}; bandwidth {least:.3f}",
    )


def _milliseconds(bench: Bench, run: Callable[[], Tensor]) -> float:
    def calls() -> None:
        for _ in range(CALLS):
            run()

    return bench.median_ms(calls, tries=5, warm=1) / CALLS
