"""What uvicorn cannot read as HTTP, with nginx and without: the app refuses it like everything else."""

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.api.test_shutdown import free_port, gunicorn, wait_until
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, running
from tests.support.recorder import Recorder


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def app(embedded_model: Path, recorder: Recorder, tmp_path: Path) -> Iterator[LiveServer]:
    """It needs keys: a request without one is refused for what it is all the same."""
    keys = tmp_path / "keys"
    keys.write_text("blue:key-of-blue\n", encoding="utf-8")
    prompts = Prompts(embedded_model, SCRIPTED_MODEL)
    server = LiveServer(create_app(Settings(api_keys_file=keys), ControlledEngine(), prompts, Observers([recorder])))
    try:
        yield server
    finally:
        server.close()


def send(port: int, *pieces: bytes) -> tuple[bytes, bytes]:
    """Head and body of the whole answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            client.sendall(piece)
        head, _, body = b"".join(iter(lambda: client.recv(65_536), b"")).partition(b"\r\n\r\n")
    return head, body


@NEEDS_NGINX
@pytest.mark.parametrize("byte", [b"\x0b", b"\x0c"])
def test_a_header_that_nginx_lets_pass_is_refused_under_its_id(
    app: LiveServer, recorder: Recorder, tmp_path: Path, byte: bytes
) -> None:
    with running(tmp_path / "nginx", app.port) as proxy:
        head, body = send(
            proxy.port,
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Request-ID: own\r\nUser-Agent: a"
            + byte
            + b"b\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        )
        found = re.search(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n", head, re.IGNORECASE)
        assert found
        assert proxy.access(found[1].decode())["status"] == 400
    assert json.loads(body)["error"]["code"] == "invalid_request"
    assert json.loads(body)["error"]["type"] == "invalid_request_error"
    (refused,) = recorder.refused
    assert (refused.id, refused.status) == (found[1].decode(), 400)
    assert refused.caller is not None
    assert (refused.caller.path, refused.caller.request_id) == ("/v1/chat/completions", "own")


@pytest.mark.parametrize(
    ("pieces", "path"),
    [
        ((b"GET /v1/models?q=\xff HTTP/1.1\r\nHost: x\r\n\r\n",), "/v1/models"),
        ((b"GET /v1/models HTTP/1.1\r\nHo", b"st: x\r\nA: \x0b\r\n\r\n"), "/v1/models"),
        ((b"\x16\x03\x01 no http\r\n\r\n",), "/"),
        ((b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",), "/"),
    ],
)
def test_without_nginx_it_has_form_id_and_event_too(
    app: LiveServer, recorder: Recorder, pieces: tuple[bytes, ...], path: str
) -> None:
    head, body = send(app.port, *pieces)
    assert head.startswith(b"HTTP/1.1 400 ")
    told = json.loads(body)
    assert (told["error"]["code"], "status" in told) == ("invalid_request", path == "/")
    (refused,) = recorder.refused
    assert f"x-request-id: {refused.id}".encode() in head.lower()
    assert refused.caller is not None
    assert refused.caller.path == path


def test_a_second_request_of_a_connection_is_told_by_its_own_head(app: LiveServer, recorder: Recorder) -> None:
    with socket.create_connection(("127.0.0.1", app.port), timeout=PATIENCE) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Request-ID: first\r\n\r\n")
        assert client.recv(65_536).startswith(b"HTTP/1.1 200 ")
        client.sendall(b"GET /v1/models?\xff HTTP/1.1\r\nHost: x\r\nX-Request-ID: second\r\n\r\n")
        assert b"x-request-id: second" in b"".join(iter(lambda: client.recv(65_536), b""))
    assert [(each.id, each.status) for each in recorder.refused] == [("second", 400)]


def test_under_gunicorn_too(embedded_model: Path, tmp_path: Path) -> None:
    port = free_port()
    with gunicorn(embedded_model, tmp_path / "log", port) as process:
        wait_until(f"http://127.0.0.1:{port}/readyz", 200, process)
        head, body = send(port, b"GET /v1/models?q=\xff HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"\r\nx-request-id: " in head.lower()
    assert json.loads(body)["error"]["code"] == "invalid_request"
