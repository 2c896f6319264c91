"""What is read of a model's tokenizer_config.json and the files that belong to it."""

import json
from pathlib import Path
from typing import Any

import pytest

from app.contract.tokenizer_config import read_tokenizer_config

BOS = {"content": "<bos>", "lstrip": False}


@pytest.mark.parametrize(
    ("config", "leading"),
    [
        ({"bos_token": BOS, "add_bos_token": True}, (7,)),
        ({"bos_token": "<bos>", "add_bos_token": True}, (7,)),
        ({"bos_token": BOS, "add_bos_token": False}, ()),
        ({"bos_token": BOS}, ()),
        ({"bos_token": "<missing>", "add_bos_token": True}, ()),
        ({"add_bos_token": True}, ()),
        (None, ()),
    ],
)
def test_a_text_begins_with_bos_where_the_model_wants_it(
    tmp_path: Path, config: dict[str, Any] | None, leading: tuple[int, ...]
) -> None:
    if config is not None:
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert read_tokenizer_config(tmp_path).leading_tokens({"<bos>": 7}.get) == leading


def test_the_special_tokens_map_completes_the_special_tokens(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>", "model_max_length": 5}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": {"content": "<pad>"}}))
    assert read_tokenizer_config(tmp_path).special_tokens == {"eos_token": "<end>", "pad_token": "<pad>"}


def test_the_chat_template_is_the_file_of_its_own_before_the_configs_default(tmp_path: Path) -> None:
    named = [{"name": "other", "template": "other"}, {"name": "default", "template": "of the config"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_tokenizer_config(tmp_path).chat_template == "of the config"
    (tmp_path / "chat_template.jinja").write_text("of the file")
    assert read_tokenizer_config(tmp_path).chat_template == "of the file"
