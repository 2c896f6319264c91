"""Long JSON is what short JSON is, and leaves others their turn."""

import asyncio
import json
from typing import Any

import pytest
from starlette.responses import JSONResponse

from app.api.http.long_json import long_json

ANSWER: dict[str, Any] = {
    "id": '世界 "quoted"',
    "choices": [{"index": 0, "text": "\u2028", "logprobs": {"token_logprobs": [None, -1.5]}}, {"index": 1}],
    "empty": [],
    "usage": {"prompt_tokens": 2},
    "none": None,
}


@pytest.mark.parametrize("value", [ANSWER, {}, {"choices": []}])
async def test_it_is_what_the_framework_writes(value: dict[str, Any]) -> None:
    written = await long_json(value)
    assert written == JSONResponse(value).body
    assert json.loads(written) == value


async def test_others_have_their_turn_after_each_item() -> None:
    turns = 0
    over = asyncio.Event()

    async def other() -> None:
        nonlocal turns
        while not over.is_set():
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(other())
    await long_json({"choices": [{}] * 50})
    over.set()
    await beside
    assert turns >= 50
