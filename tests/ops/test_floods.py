"""A flood of one key, through nginx, and a question of another."""

import asyncio
import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.contract.engine import Capacity
from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Proxy, running

pytestmark = NEEDS_NGINX


@pytest.fixture
def flooded(embedded_model: Path, tmp_path: Path) -> Iterator[Proxy]:
    """nginx in front of an app with six places, whose answers stop after their first token until the test ends."""
    keys, gate = tmp_path / "keys", asyncio.Event()
    keys.write_text("flood:key-of-flood\nother:key-of-other\n", encoding="utf-8")
    engine = ControlledEngine(capacity=Capacity(sequences=100, kv_tokens=16_384), gates={1: gate})
    engine.capacity = Capacity(sequences=2, kv_tokens=16_384)  # what admission counts on: this engine has no turns
    settings = Settings(api_keys_file=keys, max_waiting=4)
    app = LiveServer(create_app(settings, engine, Prompts(embedded_model, SCRIPTED_MODEL), Observers()))
    try:
        with running(tmp_path / "nginx", app.port) as proxy:
            yield proxy
    finally:
        app.call(gate.set)
        app.close()


def ask(proxy: Proxy, key: str, max_tokens: int, stream: bool) -> tuple[http.client.HTTPConnection, int, str, str]:
    """A connection, the status, what remains of the key's share, and the message of a refusal."""
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": max_tokens, "stream": stream}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response = connection.getresponse()
    message = "" if response.status == 200 else json.load(response)["error"]["message"]
    return connection, response.status, response.headers.get("x-ratelimit-remaining-requests", ""), message


def test_a_flood_of_one_key_refuses_nothing_of_another(flooded: Proxy) -> None:
    with ExitStack() as stack:
        answers = []
        for _ in range(12):
            connection, status, _, message = ask(flooded, "key-of-flood", 200, stream=True)
            stack.callback(connection.close)
            answers.append(status)
        assert answers == [200] * 6 + [429] * 6
        assert "6 requests of this API key" in message
        for _ in range(3):
            connection, status, remaining, message = ask(flooded, "key-of-other", 1, stream=False)
            connection.close()
            assert (status, remaining) == (200, "3"), message
