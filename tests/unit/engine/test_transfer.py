"""What is sent to a GPU comes from pinned memory. There is no GPU here: a tensor that notes its way stands in."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from app.engine.transfer import send, send_floats, send_tensor

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


@dataclass
class OnHost:
    pinned: bool = False

    def pin_memory(self) -> "OnHost":
        return OnHost(pinned=True)

    def to(self, device: torch.device, *, non_blocking: bool) -> torch.Tensor:
        assert device == GPU
        assert self.pinned
        assert non_blocking
        return torch.arange(3)


def test_parts_are_views_of_one_tensor() -> None:
    first, none, second = send(CPU, [[1, 2], [], [3]])
    assert [first.tolist(), none.tolist(), second.tolist()] == [[1, 2], [], [3]]
    assert first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()
    assert [part.tolist() for part in send_floats(CPU, [[0.5], [torch.inf]])] == [[0.5], [torch.inf]]


def test_a_gpu_gets_it_from_pinned_memory_and_the_host_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def tensor(_numbers: list[Any], *, dtype: torch.dtype, pin_memory: bool) -> OnHost:
        return OnHost(pin_memory)

    monkeypatch.setattr(torch, "tensor", tensor)
    assert [part.tolist() for part in send(GPU, [[0, 1], [2]])] == [[0, 1], [2]]
    assert len(send_floats(GPU, [[0.0, 1.0, 2.0]])) == 1
    assert send_tensor(GPU, OnHost()).tolist() == [0, 1, 2]  # type: ignore[arg-type]  # it stands in for a tensor
