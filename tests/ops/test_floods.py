"""A flood of one key, through nginx, and a question of another."""

import asyncio
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from app.contract.engine import Capacity
from app.contract.options import DType
from app.contract.telemetry import EngineLoad, Event, Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.local_engine import local_engine
from app.main import create_app
from app.models.selection import Selection
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from stack.smoke import await_true
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


class Watch:
    """An observer that waits for a load of the engine."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._load: EngineLoad | None = None

    def notify(self, event: Event) -> None:
        if isinstance(event, EngineLoad):
            with self._changed:
                self._load = event
                self._changed.notify_all()

    def wait_for(self, reached: Callable[[EngineLoad], bool]) -> EngineLoad:
        with self._changed:
            self._changed.wait_for(lambda: self._load is not None and reached(self._load), PATIENCE)
            assert self._load is not None
            assert reached(self._load), self._load
            return self._load


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def real(embedded_model: Path, tmp_path: Path, watch: Watch) -> Iterator[Proxy]:
    """nginx in front of the embedded model in float32, with four places, and four to wait in, and little memory."""
    keys = tmp_path / "keys"
    keys.write_text("flood:key-of-flood\nother:key-of-other\n", encoding="utf-8")
    settings = Settings(
        api_keys_file=keys,
        dtype=DType.FLOAT32,
        max_sequences=4,
        max_waiting=4,
        kv_tokens=512,
        drain_seconds=0,
    )
    observers = Observers([watch])
    engine = local_engine(settings, Selection(embedded_model.name, embedded_model, (), "a test"), observers)
    app = LiveServer(create_app(settings, engine, Prompts(embedded_model, engine.model), observers))
    try:
        with running(tmp_path / "nginx", app.port) as proxy:
            await_true(lambda: proxy.ask("GET", "/readyz")[0] == 200, "the model", 2 * PATIENCE)
            yield proxy
    finally:
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


def question(proxy: Proxy, number: int) -> tuple[int, str]:
    """The status and the greedy answer of the other key's question."""
    content = f"What is {number} times {number}? Explain it."
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": 24, "temperature": 0}
    headers = {"Authorization": "Bearer key-of-other", "Content-Type": "application/json"}
    status, _, raw = proxy.ask("POST", "/v1/chat/completions", json.dumps(body).encode(), headers)
    return status, json.loads(raw)["choices"][0]["message"]["content"] if status == 200 else raw.decode()


def begin_endless(proxy: Proxy, number: int) -> tuple[http.client.HTTPConnection, int]:
    """A stream of the flood without any limit."""
    content = f"Tell me a story with {number} animals."
    body = {"messages": [{"role": "user", "content": content}], "stream": True, "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    headers = {"Authorization": "Bearer key-of-flood", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection, connection.getresponse().status


@pytest.mark.model
def test_a_flood_without_limits_leaves_anothers_answers_as_they_were(real: Proxy, watch: Watch) -> None:
    """With the real model: more requests than there are places, whose answers take all memory."""
    alone = [question(real, number) for number in range(3)]
    assert [status for status, _ in alone] == [200] * 3
    assert len({text for _, text in alone}) == 3
    with ExitStack() as stack:
        statuses = []
        for number in range(12):
            connection, status = begin_endless(real, number)
            stack.callback(connection.close)
            statuses.append(status)
        assert statuses == [200] * 8 + [429] * 4
        before = watch.wait_for(
            lambda load: load.waiting > 4 and load.preemptions.total > 0
        )  # of the flood, for its memory
        assert [question(real, number) for number in range(3)] == alone
        after = watch.wait_for(lambda load: load.preemptions.total > before.preemptions.total)
        assert after.running + after.waiting > 4, "the flood is still there"
