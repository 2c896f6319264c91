"""What only a real server shows: clients that leave, and the two clients of the old contract."""

import asyncio
import json
import shutil
import socket
import subprocess
import threading
from collections.abc import AsyncGenerator, Callable
from urllib.parse import urlsplit

import pytest
import requests

from app.contract.engine import Capacity
from app.contract.events import EngineEvent
from app.contract.requests import EngineRequest
from app.engine.grammars.constraint import Constraint
from tests.api.conftest import ANSWER
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.recorder import Recorder

Serve = Callable[..., LiveServer]


def test_the_two_clients_of_the_contract(serve: Serve, script: list[int]) -> None:
    url = serve(ControlledEngine(script)).url.rstrip("/")
    answer = requests.post(
        url=url,
        headers={"Content-Type": "application/json"},
        data=json.dumps({"prompt": "你好", "history": []}),
        timeout=30,
    )
    assert answer.json()["response"] == ANSWER
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = [curl, "-sS", "-X", "POST", url, "-H", "Content-Type: application/json"]
    done = subprocess.run([*command, "-d", '{"prompt": "你好", "history": []}'], capture_output=True, check=True)
    assert json.loads(done.stdout)["response"] == ANSWER
    assert ANSWER.encode() in done.stdout


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_is_cancelled(serve: Serve, recorder: Recorder, script: list[int], stream: bool) -> None:
    gate, began = asyncio.Event(), threading.Event()

    class Watched(ControlledEngine):
        def _events(self, request: EngineRequest, constraint: Constraint | None) -> AsyncGenerator[EngineEvent, None]:
            began.set()
            return super()._events(request, constraint)

    engine = Watched(script, gates={2: gate}, capacity=Capacity(sequences=1, kv_tokens=4096))
    server = serve(engine, max_waiting=0)
    where = urlsplit(server.url)
    body = json.dumps({"prompt": "a", "stream": stream}).encode()
    head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=30) as connection:
        connection.sendall(head.encode() + body)
        assert began.wait(30)
        assert requests.post(server.url, json={"prompt": "b"}, timeout=30).status_code == 429
        assert recorder.request().error_code == "overloaded"
    told = recorder.request()
    assert (told.status, told.error_code) == (499, "client_closed")
    assert len(engine.cancelled) == 1
    server.call(gate.set)
    assert requests.post(server.url, json={"prompt": "b"}, timeout=30).json()["response"] == ANSWER


def test_a_body_that_stops_arriving_ends(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.http.read_json.BODY_SECONDS", 0.05)
    where = urlsplit(serve(ControlledEngine()).url)
    head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    with socket.create_connection((str(where.hostname), int(where.port or 0)), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 408 ")
