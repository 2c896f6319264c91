"""Keys that come and go while the app runs behind nginx."""

import asyncio
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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

SCRIPT = range(100, 110)


@pytest.fixture
def gate() -> asyncio.Event:
    """Until it is set, answers wait after their first token, unless they have only one."""
    return asyncio.Event()


@pytest.fixture
def app(
    embedded_model: Path, keys: Path, gate: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LiveServer]:
    monkeypatch.setattr("app.keys.book.LOOK_SECONDS", 0.0)
    engine = ControlledEngine(SCRIPT, gates={1: gate})
    prompts = Prompts(embedded_model, SCRIPTED_MODEL)
    server = LiveServer(create_app(Settings(api_keys_file=keys), engine, prompts, Observers()))
    try:
        yield server
    finally:
        server.call(gate.set)
        server.close()


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    keys = tmp_path / "keys"
    keys.write_text("# teams\nblue:key-of-blue\n", encoding="utf-8")
    return keys


@pytest.fixture
def proxy(app: LiveServer, tmp_path: Path) -> Iterator[Proxy]:
    with running(tmp_path / "nginx", app.port) as proxy:
        yield proxy


def command(keys: Path, *arguments: str) -> str:
    """What `python -m app keys …` prints on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "app", "keys", *arguments, "--file", str(keys)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def begin(proxy: Proxy, key: str, max_tokens: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
    """A stream."""
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=PATIENCE)
    body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": max_tokens, "stream": True}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection, connection.getresponse()


def ask(proxy: Proxy, key: str) -> tuple[int, str]:
    """The status of a question, and its answer's end or the refusal's message."""
    connection, response = begin(proxy, key, 1)
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_keys_are_added_and_revoked_while_answers_run(
    app: LiveServer, proxy: Proxy, keys: Path, gate: asyncio.Event
) -> None:
    connection, response = begin(proxy, "key-of-blue", 5)
    assert response.status == 200
    assert ask(proxy, "sk-unknown")[0] == 401
    key = command(keys, "add", "red")
    status, answer = ask(proxy, key)
    assert status == 200
    assert answer.endswith("data: [DONE]\n\n")
    command(keys, "revoke", "red")
    status, refusal = ask(proxy, key)
    assert (status, "This API key was revoked at " in refusal) == (401, True)
    keys.write_text("red\n", encoding="utf-8")  # a wrong line
    assert [ask(proxy, key)[0], ask(proxy, "key-of-blue")[0]] == [401, 200], "as before"
    app.call(gate.set)
    answer = response.read().decode()
    connection.close()
    assert answer.endswith("data: [DONE]\n\n")
    assert '"finish_reason":"length"' in answer
