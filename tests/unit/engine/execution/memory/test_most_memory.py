"""A server without a GPU says what it needs at most, and that is what it holds."""

import logging

import pytest
import torch

from app.engine.execution.decoder import Decoder
from app.engine.execution.memory.most_memory import say_most_memory
from app.engine.layers.packed import can_pack, pack
from app.models.placement import CPU_WORKING_MEMORY
from tests.support.driving import over_pages
from tests.support.simgpu import gpus
from tests.support.split import split
from tests.support.tiny import tiny_llama


@torch.inference_mode()
def test_weights_cache_and_working_memory_are_said_in_bytes(caplog: pytest.LogCaptureFixture) -> None:
    model = over_pages(tiny_llama())
    decoder = Decoder(model)
    weights = sum(weight.numel() * weight.itemsize for weight in model.parameters())
    cache = decoder.new_cache(40)
    held = [
        part
        for layer in range(len(decoder.layer_devices))
        for part in (cache.storage(layer).keys, cache.storage(layer).values)
    ]
    with caplog.at_level(logging.INFO):
        say_most_memory(decoder, 40)
    (line,) = caplog.records
    said = {name: getattr(line, f"{name}_bytes") for name in ("weights", "kv_cache", "working", "most")}
    assert said["weights"] == weights
    assert said["kv_cache"] == sum(part.numel() * part.itemsize for part in held)
    assert said["working"] == CPU_WORKING_MEMORY
    assert said["most"] == sum(said.values()) - said["most"]


@pytest.mark.skipif(not can_pack(torch.float32), reason="this CPU's oneDNN packs no float32")
@torch.inference_mode()
def test_packed_weights_count() -> None:
    model = over_pages(tiny_llama())
    before = Decoder(model).weight_bytes
    assert pack(model)
    assert Decoder(model).weight_bytes >= before  # a tied head is packed beside its embedding


def test_on_gpus_the_measured_cache_says_as_much(caplog: pytest.LogCaptureFixture) -> None:
    model = over_pages(tiny_llama())
    split(model, 1)
    with caplog.at_level(logging.INFO):
        say_most_memory(Decoder(model), 40)
    assert gpus()
    assert caplog.records == []
