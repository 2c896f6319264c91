"""Which of a tokenizer's tokens control the model instead of being text. Engine and serving must agree on them."""

import re
from collections.abc import Mapping
from typing import Any

_LOOKS_LIKE_CONTROL = re.compile(r"<[|｜].*[|｜]>", re.DOTALL)


def control_tokens(tokenizer: Mapping[str, Any]) -> dict[str, int]:
    """The ids by their texts. `tokenizer` is the content of a `tokenizer.json`: some models publish control tokens
    without marking them as special."""
    added = tokenizer.get("added_tokens") or []
    return {t["content"]: t["id"] for t in added if t["special"] or _LOOKS_LIKE_CONTROL.fullmatch(t["content"])}
