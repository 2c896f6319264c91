"""Servers that refuse, fail, stall and vanish: what the gateway's clients get, and which server is asked next."""

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2
import pytest

from app.contract.telemetry import UpstreamChanged
from app.remote import fleet, service
from tests.remote.conftest import Gateway, Misbehaves, until
from tests.support.misbehaving import MisbehavingServer, Refuses, Silent, Streams, chunk
from tests.support.recorder import Recorder

PATH = "v1/chat/completions"
SECRET = "the launch code is 0000 and nobody may know it"
BODY: dict[str, Any] = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 5}
BUSY = Refuses(429, headers={"retry-after": "17"})
BUSY_VLLM = Refuses(503, {"message": "The engine is currently busy and cannot accept new requests. …", "code": 503})
LATE = Streams((b'data: {"error": {"message": "no such grammar", "code": 400}}\n\n',))


def error_of(response: httpx2.Response) -> dict[str, Any]:
    error: dict[str, Any] = response.json()["error"]
    assert SECRET not in response.text
    return error


def events(client: httpx2.Client, **fields: Any) -> list[Any]:
    """The data of a stream's events."""
    response = client.post(PATH, json=BODY | {"stream": True} | fields)
    assert response.status_code == 200, response.text
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return [json.loads(one) for one in data]


@pytest.mark.parametrize(
    ("refusal", "status", "code", "words"),
    [
        (Refuses(400, {"message": "top_k is too large."}), 400, "invalid_request", "top_k is too large"),
        (Refuses(422, {"message": "no such field", "param": "x"}), 400, "invalid_request", "no such field"),
        (Refuses(400, {"message": "no x", "code": "unsupported_field"}), 400, "unsupported_field", "no x"),
        (Refuses(400, {"message": f"bad: {SECRET}"}), 400, "invalid_request", "refuses this request"),
        (Refuses(400, {"message": f"got {SECRET[:26]!r}"}), 400, "invalid_request", "refuses this request"),
        (Refuses(400, {"message": "x" * 1000}), 400, "invalid_request", "refuses this request"),
        (
            Refuses(400, {"message": "This model's maximum context length is 8 tokens. However, you requested 9 …"}),
            400,
            "context_length_exceeded",
            "maximum context length is 8",
        ),
        (BUSY, 429, "overloaded", "full"),
        (Refuses(401, {"message": "wrong key sk-123"}), 500, "upstream_failed", "refuses this server's key"),
        (Refuses(404), 500, "upstream_failed", "failed"),
        (Refuses(500, {"message": "Traceback"}), 500, "upstream_failed", "failed"),
        (Refuses(503, {"message": "Traceback"}), 503, "upstream_unavailable", "can be reached"),
        (Refuses(503, headers={"retry-after": "9"}), 503, "upstream_unavailable", "can be reached"),
        (Refuses(504), 504, "deadline_exceeded", "longer"),
        (Streams((b"data: {no json\n\n",)), 500, "upstream_failed", "failed"),
        (Streams((b'data: {"error": {"message": "CUDA"}}\n\n',)), 500, "upstream_failed", "failed"),
        (Streams(("a", chunk("", "abort"))), 500, "upstream_failed", "failed"),
        (LATE, 400, "invalid_request", "no such grammar"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_is_ours(  # noqa: PLR0917  # pytest's parameters
    ask: Gateway, misbehaves: Misbehaves, refusal: Any, status: int, code: str, words: str, stream: bool
) -> None:
    client = ask(misbehaves(otherwise=refusal).address)
    response = client.post(PATH, json=BODY | {"stream": stream})
    if stream and isinstance(refusal, Streams):
        error = json.loads(response.text.rpartition('data: {"error"')[2].partition("\n")[0].join(['{"error"', ""]))
        assert error["error"]["code"] == code
        return
    error = error_of(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert words in error["message"]
    retry_after = response.headers.get("retry-after")
    assert retry_after == getattr(refusal, "headers", {}).get("retry-after", "5" if status == 503 else None)


@pytest.mark.parametrize(("refusal", "status"), [(BUSY, 429), (BUSY_VLLM, 429), (LATE, 400)])
def test_what_is_no_failure_takes_no_server_out(
    ask: Gateway, misbehaves: Misbehaves, refusal: Any, status: int
) -> None:
    client = ask(misbehaves(*[refusal] * 4).address)
    assert [client.post(PATH, json=BODY).status_code for _ in range(5)] == [status] * 4 + [200]


def test_a_cut_answer_is_an_error_and_no_other_server_is_asked(
    ask: Gateway, misbehaves: Misbehaves, recorder: Recorder
) -> None:
    cut = misbehaves(Streams(("one ", "two"), then="break"))
    *pieces, error = events(ask(cut.address))
    assert "".join(piece["choices"][0]["delta"].get("content", "") for piece in pieces) == "one two"
    assert error["error"]["code"] == "upstream_failed"
    assert len(cut.bodies) == 1
    told = recorder.request()
    assert (told.status, told.error_code, told.response) == (500, "upstream_failed", "one two")


@pytest.mark.parametrize(
    "failure", [BUSY, Refuses(500), Refuses(401), Streams((), then="break"), Streams((b"data: what?\n\n",))]
)
def test_another_server_is_asked_before_anything_came_out(ask: Gateway, misbehaves: Misbehaves, failure: Any) -> None:
    servers = [misbehaves() for _ in range(2)]
    first, second = servers
    client = ask(*(server.address for server in servers))
    until(lambda: _both_known(client, *servers))
    assert client.post(PATH, json=BODY).status_code == 200
    home = first if first.bodies else second
    home.plays.append(failure)
    answer = client.post(PATH, json=BODY)
    assert answer.json()["choices"][0]["message"]["content"] == "Hello"
    assert sorted(len(server.bodies) for server in servers) == [1, 2]


def test_a_broken_connection_is_tried_once_more_where_there_is_no_other_server(
    ask: Gateway, misbehaves: Misbehaves
) -> None:
    server = misbehaves(Streams((), then="break"))
    assert ask(server.address).post(PATH, json=BODY).status_code == 200
    assert len(server.bodies) == 2


def test_a_full_server_is_asked_once(ask: Gateway, misbehaves: Misbehaves) -> None:
    server = misbehaves(otherwise=BUSY)
    assert ask(server.address).post(PATH, json=BODY).status_code == 429
    assert len(server.bodies) == 1


@pytest.mark.parametrize("play", [Silent(), Streams((), then="hang")])
def test_a_stalled_server_is_ended_by_the_deadline(ask: Gateway, misbehaves: Misbehaves, play: Any) -> None:
    server = misbehaves(otherwise=play)
    response = ask(server.address, request_timeout=0.5).post(PATH, json=BODY)
    assert (response.status_code, error_of(response)["code"]) == (504, "deadline_exceeded")
    assert server.left.wait(30)


def test_what_a_stalled_server_has_sent_is_the_answer(ask: Gateway, misbehaves: Misbehaves) -> None:
    server = misbehaves(otherwise=Streams(("one",), then="hang"))
    choice = ask(server.address, request_timeout=0.5).post(PATH, json=BODY).json()["choices"][0]
    assert choice["message"]["content"] == "one"
    assert (choice["finish_reason"], choice["error"]["code"]) == ("length", "deadline_exceeded")
    assert server.left.wait(30)


def test_a_silent_server_does_not_keep_a_stream_silent(
    ask: Gateway, misbehaves: Misbehaves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "PATIENCE", 0.1)
    silent = Silent()
    server = misbehaves(silent)
    with ask(server.address).stream("POST", PATH, json=BODY | {"stream": True}) as response:
        assert response.status_code == 200
        server.call(silent.released.set)
        assert '"code":"overloaded"' in response.read().decode()


def test_a_server_that_vanishes_and_comes_back(ask: Gateway, recorder: Recorder, misbehaves: Misbehaves) -> None:
    server = misbehaves()
    client = ask(server.address)
    server.health = 503
    until(lambda: client.get("readyz").status_code == 503)
    refusal = client.post(PATH, json=BODY)
    assert (refusal.status_code, error_of(refusal)["code"]) == (503, "upstream_unavailable")
    assert client.get("livez").status_code == 200
    server.health = 200
    until(lambda: client.get("readyz").status_code == 200)
    assert client.post(PATH, json=BODY).status_code == 200
    states = [event.state for event in recorder.others if isinstance(event, UpstreamChanged)]
    changes = [state for at, state in enumerate(states) if at == 0 or states[at - 1] != state]
    assert changes == ["down", "up", "down", "trial", "up"]


def test_a_server_that_keeps_failing_is_left_alone(ask: Gateway, misbehaves: Misbehaves) -> None:
    broken, well = misbehaves(), misbehaves()
    client = ask(broken.address, well.address)
    until(lambda: _both_known(client, broken, well))
    broken.otherwise = Refuses(500)
    for number in range(30):
        turn = {"role": "user", "content": f"question {number}"}
        assert client.post(PATH, json=BODY | {"messages": [turn]}).status_code == 200
    asked = len(broken.bodies)
    assert asked >= 1
    assert asked < 10, "three failures in a row, and one after each time that its health was well"
    assert len(well.bodies) == 30


def _both_known(client: httpx2.Client, *servers: MisbehavingServer) -> bool:
    """Whether requests of different conversations have reached each server."""
    for number in range(20):
        client.post(PATH, json=BODY | {"messages": [{"role": "user", "content": f"warm up {number}"}]})
    known = all(server.bodies for server in servers)
    if known:
        for server in servers:
            server.bodies.clear()
    return known


def test_a_server_of_another_model_is_not_asked(ask: Gateway, misbehaves: Misbehaves) -> None:
    one, other = misbehaves(model="m"), misbehaves(model="other")
    client = ask(one.address, other.address, model="m")
    for number in range(10):
        turn = {"role": "user", "content": f"question {number}"}
        assert client.post(PATH, json=BODY | {"messages": [turn]}).status_code == 200
    assert (len(one.bodies), len(other.bodies)) == (10, 0)


def test_a_conversation_stays_with_its_server(ask: Gateway, misbehaves: Misbehaves) -> None:
    servers = [misbehaves() for _ in range(3)]
    client = ask(*(server.address for server in servers))
    until(lambda: _both_known(client, *servers))
    turns = [{"role": "user", "content": "hi"}]
    for _ in range(5):
        answer = client.post(PATH, json=BODY | {"messages": turns}).json()["choices"][0]["message"]["content"]
        turns += [{"role": "assistant", "content": answer}, {"role": "user", "content": "go on"}]
    assert sorted(len(server.bodies) for server in servers) == [0, 0, 5]


def test_what_a_server_is_sent(ask: Gateway, misbehaves: Misbehaves) -> None:
    server = misbehaves()
    client = ask(server.address, engine_api_key="behind-0123456789")
    assert client.post(PATH, json=BODY, headers={"authorization": "Bearer mine"}).status_code == 200
    (headers,) = server.headers
    assert headers["authorization"] == "Bearer behind-0123456789"
    (body,) = server.bodies
    assert isinstance(body.pop("seed"), int)
    assert len(body.pop("cache_salt")) == 64
    assert body == {
        "model": "m",
        "messages": BODY["messages"],
        "max_tokens": 5,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }


def test_failures_that_are_not_in_a_row_take_no_server_out(ask: Gateway, misbehaves: Misbehaves) -> None:
    """Each good answer forgets the failures before it, though its reader asks for nothing behind its end."""
    client = ask(misbehaves(*[Streams(), Refuses(500)] * 5).address)
    statuses = [client.post(PATH, json=BODY).status_code for _ in range(10)]
    assert statuses == [200, 500] * 5


def test_the_only_server_that_failed_is_asked_at_once_whether_it_is_well(
    ask: Gateway, misbehaves: Misbehaves, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "PROBE_SECONDS", 600)  # its next turn is far away
    client = ask(misbehaves(*[Refuses(500)] * 3).address)
    assert [client.post(PATH, json=BODY).status_code for _ in range(3)] == [500] * 3
    until(lambda: client.post(PATH, json=BODY).status_code == 200)


class HangsUp(BaseHTTPRequestHandler):
    """A server that closes the connection when it has read a request; its list of models is endless on demand."""

    endless = False
    posts = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        with suppress(OSError):
            if self.path == "/v1/models":
                self.wfile.write(b'{"data": [{"id": "m", "owned_by": "vllm"}]')
                while type(self).endless:
                    self.wfile.write(b" " * 65_536)
                self.wfile.write(b"}")

    def do_POST(self) -> None:
        type(self).posts += 1
        self.rfile.read(int(self.headers["content-length"]))
        self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        """Not on the terminal."""


@pytest.fixture
def hangs_up() -> Iterator[tuple[type[HangsUp], str]]:
    class Handler(HangsUp):
        pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield Handler, f"http://127.0.0.1:{server.server_port}/v1"
        finally:
            Handler.endless = False
            server.shutdown()


def test_a_connection_that_broke_once_the_request_was_sent_is_no_503(
    ask: Gateway, hangs_up: tuple[type[HangsUp], str]
) -> None:
    """A proxy passes a 503 on to another box, and this request may have been computed."""
    handler, address = hangs_up
    response = ask(address).post(PATH, json=BODY)
    assert (response.status_code, error_of(response)["code"]) == (500, "upstream_failed")
    assert handler.posts == 2, "once more, on a new connection"


def test_a_list_of_models_without_an_end_is_not_read(ask: Gateway, hangs_up: tuple[type[HangsUp], str]) -> None:
    handler, address = hangs_up
    client = ask(address)
    handler.endless = True
    assert client.post(PATH, json=BODY).status_code == 500
    assert client.post(PATH, json=BODY).status_code == 500  # it is down now, and asked
    until(lambda: client.get("readyz").status_code == 503)
    handler.endless = False
    until(lambda: client.get("readyz").status_code == 200)


@pytest.mark.parametrize(
    ("play", "reason"),
    [
        (Refuses(500, {"message": SECRET}), "status 500"),
        (Streams((b"data: {no json\n\n",)), "an answer that broke off, or was none"),
        (Streams(("Hello",), "break"), "RemoteProtocolError"),
    ],
)
def test_the_log_says_why_by_the_id_that_the_client_has(
    ask: Gateway, misbehaves: Misbehaves, caplog: pytest.LogCaptureFixture, play: Any, reason: str
) -> None:
    server = misbehaves(*[play] * 4)
    response = ask(server.address).post(PATH, json=BODY)
    assert response.status_code == 500
    (record,) = [each for each in caplog.records if each.getMessage() == "a server failed a request"]
    assert (record.request_id, record.reason) == (response.headers["x-request-id"], reason)  # type: ignore[attr-defined]  # extra
    assert record.upstream in server.address  # type: ignore[attr-defined]  # likewise
    assert SECRET not in str(vars(record)), "a server's words may repeat a prompt"
