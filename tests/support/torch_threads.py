"""Serves the embedded model in this process, asks it everything once, and prints which threads touched torch.

Run as a program of its own: `python -m tests.support.torch_threads`, with MODEL and MODELS_DIR set. Prints one JSON
object: thread names to functions of torch that they called.
"""

import asyncio
import json
import sys
import threading
from collections import defaultdict
from types import FrameType
from typing import Any

MOST = 20
"""Calls of one thread that are noted: the inference thread makes thousands."""

seen: dict[str, list[str]] = defaultdict(list)


def watch(_frame: FrameType, event: str, function: Any) -> None:
    """A profile function: notes calls into torch's C++, which every operation ends in."""
    if event != "c_call" or not _of_torch(function):
        return
    name = threading.current_thread().name
    seen[name].append(repr(function))
    if len(seen[name]) >= MOST:
        sys.setprofile(None)


def _of_torch(function: Any) -> bool:
    owner = getattr(function, "__self__", None)
    modules = (getattr(function, "__module__", None), getattr(owner, "__module__", None), type(owner).__module__)
    return any(_is_torch(str(module)) for module in modules)


def _is_torch(module: str) -> bool:
    return module == "torch" or module.startswith("torch.")


async def serve_and_ask() -> None:
    from httpx2 import ASGITransport, AsyncClient  # noqa: PLC0415  # everything is imported under the watch

    from app.main import build  # noqa: PLC0415  # likewise

    app = build()
    async with (
        app.router.lifespan_context(app),
        AsyncClient(transport=ASGITransport(app), base_url="http://test", timeout=120) as client,
    ):
        while (await client.get("/readyz")).status_code != 200:  # noqa: ASYNC110  # as a probe would
            await asyncio.sleep(0.1)
        for path, body in QUESTIONS:
            answer = await client.post(path, json=body)
            assert answer.status_code == 200, (path, answer.text)
        assert (await client.get("/metrics")).status_code == 200


ASK = [{"role": "user", "content": "Write a Python function named add."}]
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("/", {"prompt": "Hello", "history": [], "max_length": 8}),
    ("/v1/chat/completions", {"messages": ASK, "max_tokens": 8, "stream": True, "logprobs": True}),
    (
        "/v1/chat/completions",
        {
            "messages": ASK,
            "max_tokens": 8,
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        },
    ),
    ("/tokenize", {"prompt": "Hello"}),
]


if __name__ == "__main__":
    threading.setprofile(watch)
    sys.setprofile(watch)
    asyncio.run(serve_and_ask())
    sys.setprofile(None)
    sys.stdout.write(json.dumps(seen))
