"""The small kernels of DeepSeek's layers at the model's real shape: their error to float64."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from app.engine.kv.pages import PAGE_SIZE
from bench.gpu_check.bench import Bench
from bench.gpu_check.errors import ROUNDED, relative, worst
from bench.gpu_check.report import Row

TOKENS = (1, 33, 512)
HEADS, NOPE, RANK, ROPE = 16, 128, 512, 64
WIDTH, PARTS = 2048, 8
EXPERTS, CHOSEN = 64, 6
BLOCKS = (64, 128)
"""Rows of a block of sorted pairs."""

EPSILON = 1e-6
SHARES_BOUND = 1e-4
"""The router's sums are float32 for every type."""


def operations(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("small kernels of the layers", "left out", note="for GPUs; make test computes them on the CPU")
        return
    yield from compared(bench)


@torch.inference_mode()
def compared(bench: Bench) -> Iterator[Row]:
    """Every kernel against float64."""
    bound = ROUNDED[bench.dtype]
    errors = {f"{tokens} tokens": _rotation_error(bench, tokens) for tokens in TOKENS}
    yield worst("rotation and norm into pages", errors, bound)
    errors = {f"{n} tokens, {parts} parts": _norm_error(bench, n, parts) for n in TOKENS for parts in (1, PARTS)}
    yield worst("norm with residual", errors, bound)
    errors = {f"{tokens} tokens": _router_error(bench, tokens) for tokens in TOKENS}
    yield worst("router", errors, SHARES_BOUND, "of shares, by the norm, to float64")
    yield _sorted(bench)


def _rotation_error(bench: Bench, tokens: int) -> float:
    """Of queries and stored rows together; infinite if anything else was written."""
    from app.engine.attention.backends.triton.rotation import rotate_and_store  # noqa: PLC0415  # it needs Triton

    query = torch.randn(tokens, HEADS, NOPE + ROPE, device=bench.device).to(bench.dtype)
    compressed = (torch.randn(tokens, RANK + ROPE, device=bench.device) * 3).to(bench.dtype)
    norm = torch.randn(RANK, device=bench.device).to(bench.dtype)
    angles = torch.rand(tokens, ROPE // 2, device=bench.device) * 1000
    rotation = torch.polar(torch.ones_like(angles), angles)
    pages = torch.full((-(-2 * tokens // PAGE_SIZE), PAGE_SIZE, RANK + ROPE), float("nan"), device=bench.device)
    pages = pages.to(bench.dtype)
    slots = torch.randperm(pages.shape[0] * PAGE_SIZE, device=bench.device)[:tokens]
    latent = F.rms_norm(compressed[:, :RANK].double(), (RANK,), norm.double(), EPSILON)
    expected_rows = torch.cat((latent, _turned(compressed[:, None, RANK:], rotation)[:, 0]), dim=-1)
    expected_query = torch.cat((query[..., :NOPE].double(), _turned(query[..., NOPE:], rotation)), dim=-1)
    rotate_and_store(query, compressed, rotation=rotation, norm=norm, slots=slots, pages=pages, epsilon=EPSILON)
    if int(pages.isfinite().sum()) != expected_rows.numel():
        return float("inf")
    return max(relative(pages.view(-1, RANK + ROPE)[slots], expected_rows), relative(query, expected_query))


def _turned(numbers: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """`[t, heads, p]` by `[t, p / 2]`: numbers 2i and 2i + 1 are a complex number."""
    pairs = torch.view_as_complex(numbers.double().reshape(*numbers.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation[:, None].to(torch.complex128)).flatten(-2)


def _norm_error(bench: Bench, tokens: int, parts: int) -> float:
    """Of the sum to the exact one, or of the norm to the exact one of the sum that is kept."""
    from app.engine.layers.triton_norms import add_norm  # noqa: PLC0415  # likewise

    residual = torch.randn(tokens, WIDTH, device=bench.device).to(bench.dtype)
    added = torch.randn(tokens, parts, WIDTH, device=bench.device).to(bench.dtype)
    weight = torch.randn(WIDTH, device=bench.device).to(bench.dtype)
    total, normal = add_norm(residual, added, weight, EPSILON)
    exact = F.rms_norm(total.double(), (WIDTH,), weight.double(), EPSILON)
    return max(relative(total, residual.double() + added.double().sum(1)), relative(normal, exact))


def _router_error(bench: Bench, tokens: int) -> float:
    """Of the shares, and of how likely the chosen experts are: two that nearly tie may change places. Infinite if an
    expert was chosen twice."""
    from app.engine.layers.triton_router import route  # noqa: PLC0415  # likewise

    hidden = torch.randn(tokens, WIDTH, device=bench.device).to(bench.dtype)
    weight = (torch.randn(EXPERTS, WIDTH, device=bench.device) * 0.04).to(bench.dtype)
    chosen, shares = route(hidden, weight, CHOSEN, 1.0)
    if not bool((chosen.sort(dim=1).values.diff(dim=1) > 0).all()):
        return float("inf")
    exact = (hidden.double() @ weight.double().T).softmax(-1)
    largest = exact.topk(CHOSEN).values
    return max(relative(shares, largest), relative(exact.gather(1, chosen), largest))


def _sorted(bench: Bench) -> Row:
    """Every pair once, in a block of its expert."""
    from app.engine.layers.triton_sort import sort_pairs  # noqa: PLC0415  # likewise

    wrong = []
    for tokens in TOKENS:
        random = torch.rand(tokens, EXPERTS, device=bench.device)
        cases = {
            "at random": random.topk(CHOSEN).indices,
            "few experts": random[:, : CHOSEN + 1].topk(CHOSEN).indices,
            "all to one": torch.full((tokens, 1), EXPERTS - 1, device=bench.device),
        }
        for rows in BLOCKS:
            for name, chosen in cases.items():
                order, owners = sort_pairs(chosen.contiguous(), EXPERTS, rows)
                used = owners >= 0
                listed, owner = order.view(-1, rows)[used].long(), owners[used, None].expand(-1, rows)
                pairs, owner = listed[listed >= 0], owner[listed >= 0]
                every = torch.arange(chosen.numel(), device=bench.device)
                right = torch.equal(pairs.sort().values, every) and torch.equal(chosen.flatten()[pairs], owner.long())
                if not right:
                    wrong.append(f"{tokens} tokens {name}, {rows} rows")
    count = len(TOKENS) * len(BLOCKS) * len(cases)
    note = f"wrong: {', '.join(wrong)}" if wrong else "every pair once, in a block of its expert"
    return Row("choices sorted by expert", f"{count - len(wrong)} of {count}", ok=not wrong, note=note)
