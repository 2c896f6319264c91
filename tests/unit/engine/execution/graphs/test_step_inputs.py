"""The pinned buffer of a step's inputs changes only when every GPU has read it. There is no GPU here: copies and
events that note what happens stand in."""

from typing import Any

import pytest
import torch
from torch import Tensor

from app.engine.attention.step import Row, Step
from app.engine.execution.graphs.step_inputs import StepInputs

FIRST, SECOND = torch.device("cuda", 0), torch.device("cuda", 1)


class OnGpu:
    """A GPU's copy of the buffer: reads it late, as a copy in flight does."""

    def __init__(self, device: torch.device, happened: list[tuple[str, Any]]) -> None:
        self.device, self._happened = device, happened

    def __getitem__(self, _part: slice) -> "OnGpu":
        return self

    def copy_(self, source: Tensor, *, non_blocking: bool) -> None:
        assert non_blocking
        self._happened.append(("copies to", self.device))
        self.source = source

    def wait(self) -> None:
        """Until the copy is done: what it reads now is what the GPU gets."""
        self._happened.append(("read by the GPU", (self.device, self.source[0].item())))


class Event:
    """Of the last copy to one GPU, which is not done before somebody waits for it."""

    def __init__(self, copies: list[OnGpu], happened: list[tuple[str, Any]]) -> None:
        self._copies, self._happened, self._number = copies, happened, -1

    def query(self) -> bool:
        return self._number < 0

    def record(self, stream: torch.device) -> None:
        self._happened.append(("marked on the stream of", stream))
        self._number = [copy.device for copy in self._copies].index(stream)

    def synchronize(self) -> None:
        self._copies[self._number].wait()


@pytest.fixture
def happened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    noted: list[tuple[str, Any]] = []
    copies: list[OnGpu] = []
    zeros = torch.zeros

    def made(_host: Tensor, device: torch.device) -> OnGpu:
        copies.append(OnGpu(device, noted))
        return copies[-1]

    monkeypatch.setattr(
        torch, "zeros", lambda *size, dtype, pin_memory: zeros(*size, dtype=dtype) if pin_memory else 1
    )
    monkeypatch.setattr(torch, "zeros_like", made)
    monkeypatch.setattr(torch.cuda, "Event", lambda: Event(copies, noted))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    return noted


def step(token: int) -> Step:
    return Step([token], [0], [32], (Row([1], 1),), (), (), [0])


def test_it_changes_when_every_gpu_has_read_it(happened: list[tuple[str, Any]]) -> None:
    inputs = StepInputs(4, 2, 32, 0, [FIRST, SECOND])
    inputs.fill(step(7), 1)
    sent = [
        ("copies to", FIRST),
        ("marked on the stream of", FIRST),
        ("copies to", SECOND),
        ("marked on the stream of", SECOND),
    ]
    assert happened == sent
    happened.clear()
    inputs.fill(step(8), 1)
    assert happened == [("read by the GPU", (FIRST, 7)), ("read by the GPU", (SECOND, 7)), *sent]
