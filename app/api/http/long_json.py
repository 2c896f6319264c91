"""JSON of an answer that may be long: a list of thousands of tokens for each of many choices."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any


async def long_json(value: Mapping[str, Any]) -> bytes:
    """As starlette's JSONResponse writes it. Other requests have their turn after each item of a list."""
    return f"{{{','.join([f'{_dumps(name)}:{await _text(item)}' for name, item in value.items()])}}}".encode()


async def _text(value: Any) -> str:
    if not isinstance(value, list):
        return _dumps(value)
    items = []
    for item in value:
        items.append(_dumps(item))
        await asyncio.sleep(0)
    return f"[{','.join(items)}]"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
