"""A model with fused layers and packed weights answers as the stock one does."""

import pytest
import torch

from app.engine.attention.backends import compiled
from app.engine.layers.llama import FusedLlamaLayer, fuse
from app.engine.loading.startup import adapt
from tests.support.driving import drive, reference
from tests.support.tiny import tiny_deepseek, tiny_llama

PROMPT = list(range(40, 75))


@pytest.mark.parametrize("make", [tiny_llama, tiny_deepseek])
def test_an_adapted_model_answers_as_the_stock_one_does(make: type) -> None:
    expected = reference(make(), PROMPT, 20)
    model = make()
    adapted = adapt(model, torch.float32, on_gpu=False)
    assert adapted["packed_linears"] > 0
    # In chunks: a step that ends no prompt has no row for the head.
    assert drive(model, chunk=16).ask("a", PROMPT, 20) == expected


def test_long_chunks_are_attended_beside_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = [reference(tiny_llama(), prompt, 12) for prompt in (PROMPT, PROMPT[:9])]
    monkeypatch.setattr(compiled, "LONG_CHUNK", 20)  # the last two of three chunks are long
    model = tiny_llama()
    adapt(model, torch.float32, on_gpu=False)
    driver = drive(model, chunk=16)
    driver.submit("b", PROMPT[:9], 12)
    driver.run(until=lambda: bool(driver.tokens["b"]))  # beside a sequence that decodes, chunks are small
    driver.submit("a", PROMPT, 12)
    driver.run()
    assert [driver.tokens["a"], driver.tokens["b"]] == expected


def test_a_plain_llama_is_fused_and_others_are_left_alone() -> None:
    llama, biased, deepseek = tiny_llama(), tiny_llama(mlp_bias=True), tiny_deepseek()
    assert (fuse(llama), fuse(biased), fuse(deepseek)) == (4, 0, 0)
    assert all(type(layer) is FusedLlamaLayer for layer in llama.model.layers)
