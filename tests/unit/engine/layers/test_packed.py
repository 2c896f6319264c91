"""Packed linear layers compute what plain ones compute."""

import torch

from app.engine.layers.packed import PackedLinear, can_pack, pack


def test_packing_replaces_linear_layers_and_keeps_their_numbers() -> None:
    layers = torch.nn.Sequential(torch.nn.Linear(32, 48), torch.nn.Sequential(torch.nn.Linear(48, 8, bias=False)))
    x = torch.rand(5, 32)
    expected = layers(x)
    assert pack(layers) == 2
    assert isinstance(layers[0], PackedLinear)
    torch.testing.assert_close(layers(x), expected)


def test_a_type_that_cannot_be_packed_is_not() -> None:
    assert can_pack(torch.float32)
    assert not can_pack(torch.float64)
