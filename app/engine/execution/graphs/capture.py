"""Captures a computation as a CUDA graph, in the order that torch asks for (its notes on CUDA semantics)."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]
"""A computation to its replay. The replay's result is one tensor, which the next replay overwrites. Raises
RuntimeError for a computation that cannot be captured."""


def captured_on(device: torch.device) -> Capture:
    """Capture on one device. All graphs share memory, so only one of them may run at a time."""
    pool = torch.cuda.graph_pool_handle()
    stream = _stream(device)

    def capture(compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        with torch.cuda.device(device):
            _rehearse(compute, stream)
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the driver meanwhile, as those that read the GPUs' memory.
            with torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                result = compute()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay

    return capture


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """One for all captures: memory of another stream would not be shared, and libraries keep some for each stream."""
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]  # torch's own


def _rehearse(compute: Callable[[], Tensor], stream: torch.cuda.Stream) -> None:
    """Run it twice on the stream: libraries allocate, plan and compile at first calls. Raises RuntimeError when it
    waits for the device: a capture that fails for that leaves torch's allocator (before 2.12) in disorder."""
    stream.wait_stream(torch.cuda.current_stream())
    try:
        with torch.cuda.stream(stream):
            compute()
            with _refusing_waits():
                compute()
    finally:  # after a refusal too: the inputs, which the stream still reads, change next
        torch.cuda.current_stream().wait_stream(stream)


@contextmanager
def _refusing_waits() -> Iterator[None]:
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)
