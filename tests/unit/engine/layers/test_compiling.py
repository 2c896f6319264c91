"""COMPILE=layers changes no token, and compiles once for all batch sizes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from app.engine.layers.compiling import compile_layers
from tests.support.driving import drive, reference
from tests.support.tiny import tiny_deepseek, tiny_llama


@pytest.mark.parametrize("make", [tiny_llama, lambda: tiny_deepseek(yarn=True)])
def test_the_same_tokens_from_few_graphs(make: Callable[[], nn.Module]) -> None:
    graphs: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _inputs: Any) -> Callable[..., Any]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    model = make()
    expected = {n: reference(make(), list(range(3, 3 + n)), 6) for n in (9, 20, 33)}
    assert compile_layers(model, backend) > 0
    driver = drive(model)
    for length in (9, 20):
        assert driver.ask(str(length), range(3, 3 + length), 6) == expected[length]
    made = len(graphs)
    assert made > 0
    assert driver.ask("33", range(3, 36), 6) == expected[33]
    assert len(graphs) == made, "another number of tokens needs no other graph"
