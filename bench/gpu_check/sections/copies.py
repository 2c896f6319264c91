"""What it costs to bring a hidden state from one GPU to the next."""

from collections.abc import Iterator

import torch

from bench.gpu_check.bench import Bench
from bench.gpu_check.report import Row

TOKENS = (2048, 32)
"""Rows of a hidden state: of a prompt chunk, and of a decode step with 32 sequences."""

CALLS = 20
"""One after the other for a figure, so that the host's waiting hardly counts."""


def copies(bench: Bench) -> Iterator[Row]:
    if len(bench.gpus) < 2:
        yield Row("copies between GPUs", "left out", note="they need two GPUs")
        return
    first, second = (torch.device("cuda", gpu.index) for gpu in bench.gpus[:2])
    direct = torch.cuda.can_device_access_peer(first, second)
    yield Row("the first two GPUs copy", "directly" if direct else "through the host")
    for tokens in TOKENS:
        yield between(bench, first, second, tokens)


def between(bench: Bench, first: torch.device, second: torch.device, tokens: int) -> Row:
    """One copy of a hidden state, [1, tokens, hidden]."""
    source = torch.ones(1, tokens, bench.config.hidden_size, dtype=torch.bfloat16, device=first)
    target = torch.empty_like(source, device=second)

    def calls() -> None:
        for _ in range(CALLS):
            target.copy_(source, non_blocking=True)

    microseconds = bench.median_ms(calls) * 1000 / CALLS
    size = source.numel() * source.itemsize
    return Row(
        f"copy {first} to {second}, {list(source.shape)}",
        microseconds,
        "us",
        note=f"{size / microseconds / 1000:.2f} GB/s",
    )
