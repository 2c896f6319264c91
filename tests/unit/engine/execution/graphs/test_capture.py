"""A capture's order of streams, and what it refuses. There is no GPU here: streams that note it stand in."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from app.engine.execution.graphs import capture
from app.engine.execution.graphs.capture import captured_on

GPU = torch.device("cuda", 0)


class Stream:
    def __init__(self, name: str, happened: list[str]) -> None:
        self.name, self._happened = name, happened

    def wait_stream(self, other: "Stream") -> None:
        self._happened.append(f"{self.name} waits for {other.name}")


class Cuda:
    """What `capture` uses of torch.cuda."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self.mode = "default"
        self.current = self.usual = Stream("the usual stream", self.happened)
        self.own = Stream("its own stream", self.happened)

    def compute(self) -> Tensor:
        self.happened.append(f"computes on {self.current.name}, waits: {self.mode}")
        return torch.zeros(1)

    def waits(self) -> Tensor:
        """A computation that reads a number."""
        if self.mode == "error":
            raise RuntimeError("called a synchronizing CUDA operation")
        return self.compute()

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        self.current = stream
        try:
            yield
        finally:
            self.current = self.usual

    @contextmanager
    def graph(self, _graph: Any, *, pool: str, stream: Stream, capture_error_mode: str) -> Iterator[None]:
        self.happened.append(f"captures, memory: {pool}, others: {capture_error_mode}")
        with self.on(stream):
            yield

    def set_mode(self, mode: str) -> None:
        self.mode = mode


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()

    @contextmanager
    def device(_device: torch.device) -> Iterator[None]:
        yield

    capture._stream.cache_clear()
    parts: dict[str, Any] = {
        "graph_pool_handle": lambda: "shared",
        "Stream": lambda _device: cuda.own,
        "current_stream": lambda: cuda.current,
        "stream": cuda.on,
        "device": device,
        "CUDAGraph": object,
        "graph": cuda.graph,
        "get_sync_debug_mode": lambda: cuda.mode,
        "set_sync_debug_mode": cuda.set_mode,
    }
    for name, part in parts.items():
        monkeypatch.setattr(torch.cuda, name, part)
    return cuda


@pytest.fixture(autouse=True)
def _forget_the_stream() -> Iterator[None]:
    yield
    capture._stream.cache_clear()


def captured(cuda: Cuda, compute: Callable[[], Tensor]) -> list[str]:
    captured_on(GPU)(compute)
    return cuda.happened


def test_rehearsals_see_the_inputs_and_are_over_before_these_change(cuda: Cuda) -> None:
    assert captured(cuda, cuda.compute) == [
        "its own stream waits for the usual stream",
        "computes on its own stream, waits: default",
        "computes on its own stream, waits: error",
        "the usual stream waits for its own stream",
        "captures, memory: shared, others: thread_local",
        "computes on its own stream, waits: default",
    ]


def test_a_computation_that_waits_is_refused_before_it_is_captured(cuda: Cuda) -> None:
    with pytest.raises(RuntimeError, match="synchronizing"):
        captured(cuda, cuda.waits)
    assert cuda.happened == [
        "its own stream waits for the usual stream",
        "computes on its own stream, waits: default",
        "the usual stream waits for its own stream",
    ]
    assert cuda.mode == "default"
