"""What takes long to compute is done on threads, and one key's work delays no other's."""

import pkgutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE

TURNS = [{"role": "user", "content": "a"}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "boolean"}}}
CALL = {"id": "a", "function": {"name": "f", "arguments": "{" + " " * 70_000 + "}"}}

WORK: dict[str, tuple[str, str, dict[str, Any]]] = {
    "parse a large body": (
        "app.api.http.read_json.parse_object",
        "/v1/chat/completions",
        {"messages": TURNS, "max_tokens": 1} | {f"absent{number}": None for number in range(5000)},
    ),
    "read the arguments of a long call": (
        "app.serving.prompt.prompts.arguments_of",
        "/v1/chat/completions",
        {"messages": [{"role": "assistant", "tool_calls": [CALL]}, *TURNS], "max_tokens": 1},
    ),
    "read a prompt": (
        "app.serving.prompt.prompts.Prompts.prepare",
        "/v1/chat/completions",
        {"messages": TURNS, "max_tokens": 1},
    ),
    "compile a grammar": (
        "app.engine.grammars.compiler.Grammars.compile",
        "/v1/chat/completions",
        {"messages": TURNS, "response_format": SCHEMA},
    ),
    "echo a prompt": (
        "app.api.openai.completions._echoes",
        "/v1/completions",
        {"prompt": "a", "echo": True, "max_tokens": 1},
    ),
    "render a conversation": (
        "app.serving.prompt.prompts.Prompts.conversation_tokens",
        "/v1/chat/completions/render",
        {"messages": TURNS},
    ),
    "tokenize": ("app.serving.prompt.prompts.Prompts.text_tokens", "/tokenize", {"prompt": "a"}),
    "name tokens": (
        "app.serving.prompt.prompts.Prompts.names",
        "/tokenize",
        {"prompt": "a", "return_token_strs": True},
    ),
    "detokenize": ("app.serving.prompt.prompts.Prompts.decode", "/detokenize", {"tokens": [1]}),
}


@pytest.mark.parametrize("work", WORK)
def test_while_one_key_waits_for_its_work_another_is_answered(
    serve: Callable[..., LiveServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    function, path, body = WORK[work]
    began, gate, first = threading.Event(), threading.Event(), threading.Lock()

    def slow(original: Callable[..., Any]) -> Callable[..., Any]:
        def wait_once(*given: Any, **named: Any) -> Any:
            if first.acquire(blocking=False):
                began.set()
                assert gate.wait(PATIENCE), "the other key was not answered meanwhile"
            return original(*given, **named)

        return wait_once

    monkeypatch.setattr(function, slow(pkgutil.resolve_name(function)))
    keys = tmp_path / "keys"
    keys.write_text("blue:key-of-blue\nred:key-of-red\n", encoding="utf-8")
    url = serve(ControlledEngine(), api_keys_file=keys).url.rstrip("/") + path

    def ask(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return requests.post(url, json=body, headers=headers, timeout=2 * PATIENCE).status_code

    with ThreadPoolExecutor(1) as threads:
        slow_one = threads.submit(ask, "key-of-blue")
        assert began.wait(PATIENCE)
        assert ask("key-of-red") == 200
        gate.set()
        assert slow_one.result() == 200
