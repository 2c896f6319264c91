"""What is read from a model's folder."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.contract.engine import SamplingDefaults
from app.models.errors import ModelNotAvailable
from app.models.info import read_model_info


def folder(path: Path, **files: dict[str, Any]) -> Path:
    for name, content in files.items():
        (path / f"{name}.json").write_text(json.dumps(content))
    return path


CONFIG = {"max_position_embeddings": 163_840, "vocab_size": 102_400, "eos_token_id": 100_001}
TOKENIZER = {"added_tokens": [{"id": 7, "content": "<end>"}, {"id": 8, "content": "<other>"}]}


def test_the_context_is_the_models_and_not_the_tokenizers(tmp_path: Path) -> None:
    info = read_model_info(folder(tmp_path, config=CONFIG, tokenizer_config={"model_max_length": 16_384}), "x")
    assert (info.name, info.context_tokens, info.vocabulary) == ("x", 163_840, 102_400)


@pytest.mark.parametrize(
    ("generation", "end", "stops"),
    [
        ({}, None, {100_001}),
        ({"eos_token_id": 5}, None, {5}),
        ({"eos_token_id": [5, 6]}, None, {5, 6}),
        ({"eos_token_id": 5}, "<end>", {5, 7}),
        ({"eos_token_id": 5}, {"content": "<end>"}, {5, 7}),
    ],
)
def test_every_end_that_the_files_name_stops(
    tmp_path: Path, generation: dict[str, Any], end: Any, stops: set[int]
) -> None:
    files = {"generation_config": generation, "tokenizer": TOKENIZER, "tokenizer_config": {"eos_token": end}}
    assert read_model_info(folder(tmp_path, config=CONFIG, **files), "x").stop_tokens == stops


@pytest.mark.parametrize(
    ("generation", "defaults"),
    [
        ({"do_sample": True, "temperature": 0.3, "top_p": 0.95}, SamplingDefaults(0.3, 0.95, 0)),
        ({"temperature": 0.6, "top_k": 20}, SamplingDefaults(0.6, 1.0, 20)),
        ({"do_sample": False}, SamplingDefaults(1.0, 1.0, 0)),
        ({"temperature": None}, SamplingDefaults()),
    ],
)
def test_the_sampling_defaults_are_the_models_own(
    tmp_path: Path, generation: dict[str, Any], defaults: SamplingDefaults
) -> None:
    assert read_model_info(folder(tmp_path, config=CONFIG, generation_config=generation), "x").defaults == defaults


@pytest.mark.parametrize("config", [None, "{", "{}", '{"max_position_embeddings": null, "vocab_size": 1}'])
def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path, config: str | None) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelNotAvailable, match=str(tmp_path)):
        read_model_info(tmp_path, "x")
