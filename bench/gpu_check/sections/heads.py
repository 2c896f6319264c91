"""The kernels of Llama's layers, at Llama-3.2-1B's and SmolLM2-135M's shapes: their error to float64, and their time.

Pages are shared by the rows, but for each row's last one, so that 512 long contexts fit any card. What lies behind a
length is not a number, in the last page and in the table's other pages.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from app.engine.kv.pages import PAGE_SIZE
from bench.gpu_check.bench import Bench
from bench.gpu_check.errors import PRODUCTS, ROUNDED, relative, worst
from bench.gpu_check.report import Row

MODELS = {"Llama-3.2-1B": (32, 8, 64), "SmolLM2-135M": (9, 3, 64)}
"""(query heads, key heads, size of one)."""

CONTEXTS = ((1, 16), (1, 2047), (1, 32_768), (8, 2048), (64, 515), (512, 2047), (512, 32_768))
"""(rows, tokens of context of the longest; the others have fewer)."""

TIMED = (32, 2048)
TOKENS = (1, 33, 512)
WIDTHS = (8192, 1536, 1037)
"""Of an MLP."""

SHARED_PAGES = 2048
SCALING = 0.125
CALLS = 20
"""In one measurement: single kernels are shorter than the wait for them."""


@dataclass(frozen=True, slots=True)
class Paged:
    """Rows of decode steps over pages: `keys` and `values` `[pages, k, size, d]`."""

    query: Tensor  # [h, n, d]
    keys: Tensor
    values: Tensor
    tables: Tensor  # [n, pages of a row]
    lengths: Tensor  # [n]


def heads(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("kernels of Llama's layers", "left out", note="for GPUs; make test computes them on the CPU")
        return
    yield from compared(bench)
    for name, shape in MODELS.items():
        yield _timed(bench, name, shape)


@torch.inference_mode()
def compared(bench: Bench) -> Iterator[Row]:
    """Every kernel against float64."""
    for name, shape in MODELS.items():
        errors = {}
        for rows, context in CONTEXTS:
            paged = random_rows(bench, shape, rows, context)
            errors[f"{rows} x {context}"] = relative(attend(paged), _exact(paged))
        yield worst(f"attention by heads, {name}", errors, PRODUCTS[bench.dtype])
        errors = {f"{tokens} tokens": _rotation_error(bench, shape, tokens) for tokens in TOKENS}
        yield worst(f"rotation of heads into pages, {name}", errors, ROUNDED[bench.dtype])
    errors = {f"{tokens} x {width}": _gate_error(bench, tokens, width) for tokens in TOKENS for width in WIDTHS}
    yield worst("gated silu", errors, ROUNDED[bench.dtype])


def _timed(bench: Bench, name: str, shape: tuple[int, int, int]) -> Row:
    rows, context = TIMED
    paged = random_rows(bench, shape, rows, context)

    def calls() -> None:
        for _ in range(CALLS):
            attend(paged)

    read = int(paged.lengths.sum()) * 2 * shape[1] * shape[2] * paged.keys.itemsize
    return Row(
        f"attention by heads, {name}, {rows} x {context}",
        bench.median_ms(calls, tries=5, warm=1) / CALLS,
        "ms",
        note=f"bandwidth {read / bench.ceiling_bytes * 1000:.3f}; shared pages may stay in the cache",
    )


def random_rows(bench: Bench, shape: tuple[int, int, int], rows: int, context: int) -> Paged:
    query_heads, key_heads, dim = shape
    device, pages = bench.device, -(-context // PAGE_SIZE)
    lengths = torch.linspace(context, max(1, context // 3), rows, device=device).long()
    shared = min(SHARED_PAGES, rows * pages)
    keys, values = (torch.randn(shared + rows + 1, key_heads, PAGE_SIZE, dim, device=device) for _ in range(2))
    own, last = shared + torch.arange(rows, device=device), (lengths - 1) // PAGE_SIZE
    place, page = torch.arange(PAGE_SIZE, device=device), torch.arange(pages, device=device)
    behind = place > ((lengths - 1) % PAGE_SIZE)[:, None]  # [n, size]
    for each in (keys, values):
        each[own] = each[own].masked_fill(behind[:, None, :, None], float("nan"))
        each[-1] = float("nan")
    tables = torch.randint(shared, (rows, pages), device=device)
    tables = tables.where(page < last[:, None], own[:, None]).where(page <= last[:, None], shared + rows)
    query = torch.randn(query_heads, rows, dim, device=device).to(bench.dtype)
    return Paged(query, keys.to(bench.dtype), values.to(bench.dtype), tables, lengths)


def attend(paged: Paged) -> Tensor:
    from app.engine.attention.backends.triton import heads as kernels  # noqa: PLC0415  # it needs Triton

    return kernels.attend(paged.query, paged.keys, paged.values, paged.tables, paged.lengths, scaling=SCALING)


def _exact(paged: Paged) -> Tensor:
    """Row by row in float64, `[n, h, d]`."""
    rows = []
    for row, length in enumerate(paged.lengths.tolist()):
        table = paged.tables[row, : -(-length // PAGE_SIZE)]
        key, value = (
            pages[table].transpose(0, 1).flatten(1, 2)[:, :length].double() for pages in (paged.keys, paged.values)
        )
        query = paged.query[:, row].double().view(len(key), -1, key.shape[-1])
        rows.append(((query @ key.mT * SCALING).softmax(-1) @ value).flatten(0, 1))
    return torch.stack(rows)


def _rotation_error(bench: Bench, shape: tuple[int, int, int], tokens: int) -> float:
    """Of queries, stored keys and stored values together; infinite if anything else was written."""
    from app.engine.attention.backends.triton.head_rotation import rotate_and_store  # noqa: PLC0415  # likewise

    query_heads, key_heads, dim = shape
    states = torch.randn(tokens, query_heads + 2 * key_heads, dim, device=bench.device).to(bench.dtype)
    angles = (torch.rand(tokens, dim // 2, device=bench.device) * 1000).repeat(1, 2)
    cos, sin = angles.cos().to(bench.dtype), angles.sin().to(bench.dtype)
    pages = -(-2 * tokens // PAGE_SIZE)
    keys = torch.full((pages, key_heads, PAGE_SIZE, dim), float("nan"), dtype=bench.dtype, device=bench.device)
    values, slots = keys.clone(), torch.randperm(pages * PAGE_SIZE, device=bench.device)[:tokens]
    expected = states.double()
    low, high = expected[:, :-key_heads].chunk(2, dim=-1)
    turned = torch.cat((-high, low), dim=-1) * sin.double()[:, None]
    expected[:, :-key_heads] = expected[:, :-key_heads] * cos.double()[:, None] + turned
    rotate_and_store(states, cos=cos, sin=sin, slots=slots, keys=keys, values=values)
    if any(int(each.isfinite().sum()) != tokens * key_heads * dim for each in (keys, values)):
        return float("inf")
    stored = (each[slots // PAGE_SIZE, :, slots % PAGE_SIZE] for each in (keys, values))
    return relative(torch.cat((states[:, :query_heads], *stored), dim=1), expected)


def _gate_error(bench: Bench, tokens: int, width: int) -> float:
    from app.engine.layers.triton_silu import silu_product  # noqa: PLC0415  # likewise

    joined = (torch.randn(tokens, 2 * width, device=bench.device) * 4).to(bench.dtype)
    gate, up = joined.double().chunk(2, dim=1)
    return relative(silu_product(joined), torch.nn.functional.silu(gate) * up)
