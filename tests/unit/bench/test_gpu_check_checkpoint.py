"""The GPU check's model comes onto two cards of 24 GB, and what compares with it does too."""

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import bench.gpu_check.checkpoint as checkpoints
from app.local_engine import engine_config
from app.models.catalogue import DEEPSEEK
from app.models.placement import Gpu
from app.models.selection import Selection
from app.models.units import GIB
from app.settings import Settings
from bench.gpu_check.checkpoint import config_for, model_for, random_model, write_random
from bench.gpu_check.sections.baseline import plain_model

CPU = torch.device("cpu")
PAIR = tuple(Gpu(index, "NVIDIA GeForce RTX 3090", 24 * GIB, round(23.5 * GIB)) for index in range(2))


def test_the_whole_model_is_checked_on_two_cards_of_24_gb() -> None:
    config, note = model_for(PAIR)
    assert (config.num_hidden_layers, note) == (DEEPSEEK.config()["num_hidden_layers"], "")
    fewer, note = model_for(PAIR[:1])
    assert fewer.num_hidden_layers < config.num_hidden_layers
    assert note == f"{fewer.num_hidden_layers} of 27 layers"


def test_a_device_holds_no_more_than_one_layer_while_the_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = config_for(0)
    written: list[list[weakref.ref[torch.Tensor]]] = []
    drawn: list[weakref.ref[torch.Tensor]] = []
    draw = checkpoints._draw

    def noted(name: str, weights: torch.Tensor, generator: torch.Generator) -> None:
        drawn.append(weakref.ref(weights))
        draw(name, weights, generator)

    def checked(tensors: dict[str, torch.Tensor], *rest: Any) -> None:
        assert [ref for refs in written for ref in refs if ref() is not None] == []
        written.append(list(drawn))
        drawn.clear()
        save_file(tensors, *rest)

    monkeypatch.setattr(checkpoints, "_draw", noted)
    monkeypatch.setattr(checkpoints, "save_file", checked)
    write_random(config, tmp_path, CPU, torch.float32)
    assert len(written) == config.num_hidden_layers + 3, "the embedding, the norm and the head have files, too"


def test_the_checkpoint_is_the_stock_model(tmp_path: Path) -> None:
    config, _ = config_for(0)
    size = write_random(config, tmp_path, CPU, torch.float32)
    assert size == sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    expected = random_model(config, CPU, torch.float32).state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    for name, weights in loaded.state_dict().items():
        assert torch.equal(weights, expected[name]), name


def test_plain_transformers_is_loaded_over_both_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, _ = model_for(PAIR)
    config.save_pretrained(tmp_path)
    product = engine_config(Settings(), Selection("gpu-check", tmp_path, PAIR, "written for this check"))
    asked: dict[str, Any] = {}
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", lambda _, **options: asked.update(options))
    plain_model(product, torch.bfloat16)
    devices = [asked["device_map"][f"model.layers.{number}"] for number in range(27)]
    assert devices == sorted(devices)
    assert 12 <= devices.count(0) <= 15
    assert asked["device_map"]["lm_head"] == 1
