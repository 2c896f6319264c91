"""Bodies on their way through nginx to the app: who has no key sends none, and nobody sends one for ever."""

import json
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
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

SIZE = 100_000  # MAX_BODY_BYTES of the tests' proxy


@pytest.fixture
def guarded(embedded_model: Path, tmp_path: Path) -> Iterator[Proxy]:
    """nginx in front of an app that needs keys."""
    keys = tmp_path / "keys"
    keys.write_text("blue:key-of-blue\nred:key-of-red\n", encoding="utf-8")
    settings = Settings(api_keys_file=keys, max_body_bytes=SIZE)
    app = LiveServer(create_app(settings, ControlledEngine(), Prompts(embedded_model, SCRIPTED_MODEL), Observers()))
    try:
        with running(tmp_path / "nginx", app.port) as proxy:
            yield proxy
    finally:
        app.close()


def begin(proxy: Proxy, key: str, size: int = SIZE) -> socket.socket:
    """A connection on which a request has begun, and its body has not."""
    connection = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE)
    connection.sendall(
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {size}\r\n\r\n".encode()
    )
    return connection


def answer(connection: socket.socket) -> tuple[int, str]:
    """Status and code of the error that comes."""
    raw = b""
    while b"\r\n\r\n" not in raw or not raw.endswith(b"}"):
        piece = connection.recv(65_536)
        assert piece, raw
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["code"]


def test_the_key_is_checked_before_the_body_comes(guarded: Proxy) -> None:
    with begin(guarded, "wrong") as connection:
        assert answer(connection) == (401, "invalid_api_key")


def test_a_body_that_comes_byte_by_byte_ends_by_its_total_time(
    guarded: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.api.http.read_json.BODY_SECONDS", 0.5)
    with begin(guarded, "key-of-blue") as connection:
        connection.settimeout(0.02)
        status, until = b"", time.monotonic() + PATIENCE
        while not status and time.monotonic() < until:
            connection.sendall(b" ")  # always sooner than any limit between two reads
            try:
                status = connection.recv(12)
            except TimeoutError:
                continue
        assert status == b"HTTP/1.1 408"


def test_unfinished_bodies_of_one_key_leave_the_other_its_share(guarded: Proxy) -> None:
    with ExitStack() as stack, selectors.DefaultSelector() as answered:
        for _ in range(40):  # 32 of them are one key's share
            connection = stack.enter_context(begin(guarded, "key-of-blue"))
            answered.register(connection, selectors.EVENT_READ)
            connection.sendall(b" " * (SIZE - 1))
        refused: set[socket.socket] = set()
        while len(refused) < 8:
            ready = answered.select(PATIENCE)
            assert ready, f"{len(refused)} of 40 were refused"
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                assert answer(key.fileobj) == (429, "overloaded")
                answered.unregister(key.fileobj)
                refused.add(key.fileobj)
        body = json.dumps({"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}).encode()
        headers = {"Authorization": "Bearer key-of-red", "Content-Type": "application/json"}
        assert guarded.ask("POST", "/v1/chat/completions", body, headers)[0] == 200
