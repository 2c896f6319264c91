"""Reads what a model's folder says about the model, without torch and without its weights."""

import json
from pathlib import Path
from typing import Any

from app.contract.engine import ModelInfo, SamplingDefaults
from app.contract.tokenizer_config import read_tokenizer_config
from app.models.errors import ModelNotAvailable


def read_model_info(folder: Path, name: str) -> ModelInfo:
    """Raises ModelNotAvailable when the folder's files cannot be used.

    The context is the config's `max_position_embeddings`. The tokenizer's `model_max_length` is not read: it is a
    hint for truncation, and wrong in both directions (DeepSeek's says 16384 where the model has 163840 positions).
    """
    config = read_config(folder)
    try:
        generation = _read(folder / "generation_config.json", optional=True)
        return ModelInfo(
            name=name,
            context_tokens=int(config["max_position_embeddings"]),
            stop_tokens=_stop_tokens(folder, config, generation),
            vocabulary=int(config["vocab_size"]),
            defaults=_sampling(generation),
        )
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ModelNotAvailable(f"{folder} does not hold a usable model: {error!r}") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises ModelNotAvailable."""
    try:
        return _read(folder / "config.json")
    except (OSError, ValueError) as error:
        raise ModelNotAvailable(f"{folder}/config.json cannot be read: {error}") from error


def _sampling(generation: dict[str, Any]) -> SamplingDefaults:
    """The file's values, whatever it says about `do_sample`; for missing ones the defaults of chat APIs.

    Libraries answer greedily when `do_sample` is missing. An API samples at temperature 1 unless it is told
    otherwise, and a client that wants greedy answers says temperature 0.
    """
    known = {"temperature": float, "top_p": float, "top_k": int}
    given = {field: kind(generation[field]) for field, kind in known.items() if generation.get(field) is not None}
    return SamplingDefaults(**given)


def _stop_tokens(folder: Path, config: dict[str, Any], generation: dict[str, Any]) -> frozenset[int]:
    """The generation config's, else the config's; and the tokenizer's, with which a chat template may end turns."""
    ends = generation.get("eos_token_id", config.get("eos_token_id"))
    if ends is None:
        ends = []
    elif isinstance(ends, int):
        ends = [ends]
    text = read_tokenizer_config(folder).special_tokens.get("eos_token")
    added = _read(folder / "tokenizer.json", optional=True).get("added_tokens", [])
    return frozenset([*ends, *(token["id"] for token in added if token["content"] == text)])


def _read(path: Path, *, optional: bool = False) -> dict[str, Any]:
    if optional and not path.exists():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
