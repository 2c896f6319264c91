"""What a model's `tokenizer_config.json` says. The engine and serving both read it, and both read it here.

Newer models have their chat template in `chat_template.jinja`, older ones some special tokens in
`special_tokens_map.json`: both belong to it.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class TokenizerConfig:
    special_tokens: Mapping[str, str]  # `bos_token`, `eos_token` and others, with their texts
    adds_bos: bool
    chat_template: str | None  # Jinja

    def leading_tokens(self, id_of: Callable[[str], int | None]) -> tuple[int, ...]:
        """The ids that the model expects before a text without a template: the begin-of-sequence token, or none.

        `id_of` gives the id of a special token by its text.
        """
        bos = id_of(self.special_tokens.get("bos_token", ""))
        return (bos,) if self.adds_bos and bos is not None else ()


def read_tokenizer_config(folder: Path) -> TokenizerConfig:
    """A missing file says nothing. Raises OSError, ValueError for one that cannot be read."""
    config = _read_json(folder / "tokenizer_config.json")
    return TokenizerConfig(
        special_tokens=_special_tokens(config | _read_json(folder / "special_tokens_map.json")),
        adds_bos=bool(config.get("add_bos_token")),
        chat_template=_chat_template(folder, config),
    )


def _read_json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name, value in config.items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            tokens[name] = text
    return tokens


def _chat_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = config.get("chat_template")
    if isinstance(template, list):  # several with names
        template = {item["name"]: item["template"] for item in template}.get("default")
    return template if isinstance(template, str) else None
