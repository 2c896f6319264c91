"""Layers are computed in few operations only where these give the modules' numbers."""

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import MistralConfig, MistralForCausalLM
from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

from app.engine.attention.backends.on_gpu import TritonHeads, TritonLatents
from app.engine.attention.backends.triton import head_rotation, heads, latents, rotation, splits
from app.engine.attention.mla import absorb
from app.engine.execution import few_operations
from app.engine.execution.decoder import Decoder
from app.engine.execution.few_operations import use_few_operations
from app.engine.kv.pages import PAGE_SIZE
from app.engine.kv.shape import HeadsShape, LatentShape
from app.engine.layers import triton_norms, triton_tiles
from app.engine.layers.experts import OURS, ExpertsPolicy
from app.engine.layers.triton_experts import experts_forward
from tests.support.driving import over_pages
from tests.support.kernels import DEVICE
from tests.support.tiny import tiny_deepseek, tiny_llama


def deepseek(**changes: Any) -> Decoder:
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}  # the interpreter takes milliseconds for each
    experts = {"n_routed_experts": 6, "num_experts_per_tok": 2}
    model: Any = tiny_deepseek(num_hidden_layers=2, **(heads | experts | changes))
    absorb(model)
    ALL_EXPERTS_FUNCTIONS.register(OURS, experts_forward)  # as the start-up does on a GPU
    decoder = Decoder(model.to(DEVICE), ExpertsPolicy(model.config, {1: {OURS: 1.0}}))
    decoder.backend = TritonLatents(LatentShape(64, 16), PAGE_SIZE, torch.float32, latents, rotation)
    return decoder


def of_heads(model: Any) -> Decoder:
    """A decoder with Triton's attention by heads."""
    decoder = Decoder(over_pages(model).to(DEVICE))
    config = model.config
    shape = HeadsShape(config.num_key_value_heads, config.hidden_size // config.num_attention_heads)
    decoder.backend = TritonHeads(shape, PAGE_SIZE, torch.float32, heads, head_rotation)
    return decoder


def llama(**changes: Any) -> Decoder:
    return of_heads(tiny_llama(num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, **changes))


@pytest.fixture(params=[deepseek, llama])
def decoder(request: pytest.FixtureRequest) -> Decoder:
    make: Callable[[], Decoder] = request.param
    return make()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "PROGRAMS", 1)  # the interpreter runs them one after the other
    monkeypatch.setattr(triton_tiles, "MOST_TOKENS", 16)
    monkeypatch.setattr(few_operations, "TRIED", (1, 4, 18))  # every form of the experts


def test_all_layers_of_both_families_are(decoder: Decoder) -> None:
    (modules,) = [segment.run for segment in decoder.segments]
    assert use_few_operations(decoder) == 2
    assert decoder.segments[0].run is not modules


def test_what_is_wrong_is_not_used(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (modules,) = [segment.run for segment in decoder.segments]
    right = triton_norms.add_norm

    def wrong(*arguments: Any) -> Any:
        total, normal = right(*arguments)
        return total, normal * 1.01

    monkeypatch.setattr(triton_norms, "add_norm", wrong)
    assert use_few_operations(decoder) == 0
    assert decoder.segments[0].run is modules
    assert "wrong" in caplog.text


def test_what_does_not_run_is_not_used(
    decoder: Decoder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_arguments: Any) -> Any:
        raise RuntimeError("out of resource: shared memory")

    (modules,) = [segment.run for segment in decoder.segments]
    monkeypatch.setattr(triton_norms, "add_norm", fails)
    assert use_few_operations(decoder) == 0
    assert decoder.segments[0].run is modules
    assert "shared memory" in str(caplog.records[-1].__dict__["reason"])


def test_other_families_keep_their_modules(caplog: pytest.LogCaptureFixture) -> None:
    config = MistralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    with caplog.at_level(logging.INFO):
        assert use_few_operations(of_heads(MistralForCausalLM(config))) == 0
    assert "Mistral" in caplog.records[-1].__dict__["reason"]


def test_without_tritons_attention_the_modules_compute() -> None:
    assert use_few_operations(Decoder(tiny_llama(num_hidden_layers=1))) == 0


@pytest.mark.parametrize(
    "make",
    [lambda: deepseek(topk_method="group_limited_greedy", n_group=2, topk_group=1), lambda: llama(mlp_bias=True)],
)
def test_what_our_kernels_do_not_compute_keeps_its_modules(make: Callable[[], Decoder]) -> None:
    assert use_few_operations(make()) == 0
