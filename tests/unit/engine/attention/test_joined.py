"""Layers whose weights are joined compute what they did."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from app.engine.attention.joined import join


def layers() -> list[nn.Linear]:
    torch.manual_seed(0)
    return [nn.Linear(8, rows, bias=False) for rows in (4, 2, 6)]


@torch.inference_mode()
def test_one_product_gives_what_each_gave() -> None:
    first, second, between = layers()
    rows = torch.randn(3, 8)
    expected = first(rows), second(rows), between(rows)
    joined = join(first, second, beside=[between])
    torch.testing.assert_close(rows @ joined.T, torch.cat(expected[:2], dim=1))
    for layer, gave in zip((first, second, between), expected, strict=True):
        torch.testing.assert_close(layer(rows), gave)


@torch.inference_mode()
def test_the_layers_share_the_joined_weights() -> None:
    first, second, _ = layers()
    joined = join(first, second)
    assert first.weight.data_ptr() == joined.data_ptr()
    assert second.weight.data_ptr() == joined[4:].data_ptr()


@torch.inference_mode()
def test_without_memory_the_layers_are_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = layers()
    rows = torch.randn(3, 8)
    expected = [part(rows) for part in parts]

    def full(_tensors: list[Tensor], **_options: Any) -> Tensor:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch, "cat", full)
    with pytest.raises(torch.OutOfMemoryError):
        join(*parts[:2], beside=parts[2:])
    for part, gave in zip(parts, expected, strict=True):
        torch.testing.assert_close(part(rows), gave)
