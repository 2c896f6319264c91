"""Attention of prompt chunks at the model's real shape: the time of torch's kernels, and their error to float64."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.bias import causal_lower_right

from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row

HEADS, DIM, VALUE = 16, 192, 128
SHAPES = ((512, 512), (512, 4096), (2048, 2048), (2048, 8192))
"""(queries, keys)."""


def attention(bench: Bench) -> Iterator[Row]:
    if not bench.gpus:
        yield Row("torch's attention kernels", "left out", note="measured on GPUs only")
        return
    for queries, keys in SHAPES:
        query, key, value = (_random(bench, rows) for rows in (queries, keys, keys))
        expected = _reference(query, key, value)
        for name, run in _ways(query, key, value).items():
            try:
                error = _relative(run(), expected)
                milliseconds = bench.median_ms(run)
            except RuntimeError as refused:
                yield Row(f"{name}, {queries} x {keys}", "refused", note=str(refused).splitlines()[0][:80])
                continue
            yield Row(f"{name}, {queries} x {keys}", milliseconds, "ms", ok=error < 0.02, note=f"error {error:.1e}")
    yield from _new_shapes(bench)


def _ways(query: Tensor, key: Tensor, value: Tensor) -> dict[str, Callable[[], Tensor]]:
    queries, keys = query.shape[2], key.shape[2]
    mask = torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)

    def with_kernel(backend: SDPBackend, bias: object) -> Tensor:
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)  # type: ignore[arg-type]  # torch's own bias class

    lower_right = causal_lower_right(queries, keys)
    ways = {
        "torch flash, lower right": lambda: with_kernel(SDPBackend.FLASH_ATTENTION, lower_right),
        "cuDNN, lower right": lambda: with_kernel(SDPBackend.CUDNN_ATTENTION, lower_right),
        "efficient, mask": lambda: with_kernel(SDPBackend.EFFICIENT_ATTENTION, mask),
        "cuDNN, mask": lambda: with_kernel(SDPBackend.CUDNN_ATTENTION, mask),
        "torch's choice, mask": lambda: F.scaled_dot_product_attention(query, key, value, attn_mask=mask),
    }
    with suppress(ImportError):
        from flash_attn import flash_attn_func  # noqa: PLC0415  # where it is installed

        def flash() -> Tensor:
            q, k, v = (t.transpose(1, 2) for t in (query, key, value))
            output: Tensor = flash_attn_func(q, k, v, causal=True)
            return output.transpose(1, 2)

        ways["flash-attn"] = flash
    return ways


def _new_shapes(bench: Bench) -> Iterator[Row]:
    """The extra time of a length that is new, as most prompts' lengths are: the first call against the second."""
    for name, enabled in (("cuDNN allowed", True), ("cuDNN off", False)):
        first, again = [], []
        with _cudnn(enabled):
            for length in range(1031, 1031 + 8 * 37, 37):
                query = _random(bench, 512)
                key = _random(bench, length)
                mask = torch.ones(512, length, dtype=torch.bool, device=bench.device).tril(length - 512)

                def run(query: Tensor = query, key: Tensor = key, mask: Tensor = mask) -> Tensor:
                    return F.scaled_dot_product_attention(query, key, key, attn_mask=mask)

                first.append(bench.median_ms(run, tries=1, warm=0))
                again.append(bench.median_ms(run, tries=3, warm=1))
        middle = len(first) // 2
        yield Row(
            f"a new length, {name}",
            sorted(first)[middle],
            "ms",
            note=f"the same length again {sorted(again)[middle]:.3f} ms; worst first {max(first):.1f}",
        )


@contextmanager
def _cudnn(enabled: bool) -> Iterator[None]:
    before = torch.backends.cuda.cudnn_sdp_enabled()  # type: ignore[no-untyped-call]  # torch's own
    torch.backends.cuda.enable_cudnn_sdp(enabled)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(before)


def _random(bench: Bench, tokens: int) -> Tensor:
    return torch.randn(1, HEADS, tokens, DIM, device=bench.device).to(torch.bfloat16)


def _reference(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    queries, keys = query.shape[2], key.shape[2]
    scores = query.double() @ key.double().mT / DIM**0.5
    hidden = ~torch.ones(queries, keys, dtype=torch.bool, device=query.device).tril(keys - queries)
    output: Tensor = scores.masked_fill_(hidden, float("-inf")).softmax(-1) @ value.double()
    return output


def _relative(output: Tensor, expected: Tensor) -> float:
    return float((output.double() - expected).norm() / expected.norm())
