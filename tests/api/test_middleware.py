"""What every request passes: the id, the key, the body's bound, our envelope for every error."""

import asyncio
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.api.http.middleware.request_id import RequestId
from app.contract.caller import Caller
from app.keys.book import KeyBook
from app.keys.record import hash_of
from app.settings import SettingsError
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.recorder import Recorder

Serve = Callable[..., LiveServer]
HEX = re.compile(r"[0-9a-f]{32}")


def test_the_request_id_is_nginxs_and_comes_back(client: TestClient, recorder: Recorder) -> None:
    nginx_id = "4f2a" * 8
    response = client.post("/", json={"prompt": "a"}, headers={"X-Request-ID": nginx_id})
    assert response.headers["x-request-id"] == nginx_id
    assert recorder.generation().id == nginx_id


@pytest.mark.parametrize("bad", ["", "a" * 129, "with space", 'quo"te', "new\tline"])
def test_an_unsafe_request_id_is_replaced(client: TestClient, bad: str) -> None:
    response = client.get("/livez", headers={"X-Request-ID": bad})
    assert HEX.fullmatch(response.headers["x-request-id"])


async def test_the_log_context_holds_this_requests_id_alone() -> None:
    """A server may run several requests of a connection in one context."""
    seen = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(structlog.contextvars.get_contextvars())
        structlog.contextvars.bind_contextvars(leftover=True)

    async def nothing(*_: object) -> Any:
        return None

    for request_id in (b"one", b"two"):
        scope = {"type": "http", "headers": [(b"x-request-id", request_id)]}
        await RequestId(app)(scope, nothing, nothing)
    assert seen == [{"request_id": "one"}, {"request_id": "two"}]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nope", 404, "not_found"),
        ("POST", "/v1unknown", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/livez/", 404, "not_found"),
        ("PUT", "/", 405, "method_not_allowed"),
        ("DELETE", "/livez", 405, "method_not_allowed"),
    ],
)
def test_unknown_paths_and_methods(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert response.json()["status"] == status
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/v1", 404, "not_found"),
        ("POST", "/v1/unknown", 404, "not_found"),
    ],
)
def test_openais_paths_answer_in_its_form(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    response = client.request(method, path)
    assert response.status_code == status
    error = response.json()["error"]
    assert list(response.json()) == ["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", None, code)
    assert ("allow" in response.headers) == (status == 405)


def test_each_error_is_told_to_the_observers_once(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ControlledEngine(), max_body_bytes=1024)
    client.get("/nope", headers={"X-Request-ID": "one"})
    client.delete("/")
    client.post("/", json={"prompt": ""})
    client.post("/", json={"prompt": "a" * 2000})
    assert [refusal.error_code for refusal in recorder.refused] == [
        "not_found",
        "method_not_allowed",
        "invalid_request",
        "body_too_large",
    ]
    refused = recorder.refused[0]
    assert refused.caller is not None
    assert (refused.id, refused.caller.path, refused.status) == ("one", "/nope", 404)
    assert recorder.requests.empty()
    client.post("/", json={"prompt": "a", "max_length": 1})
    assert recorder.request().status == 200
    assert len(recorder.refused) == 4


def test_every_end_tells_who_asked(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ControlledEngine())
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {
        "User-Agent": "agent/1",
        "X-Real-IP": "192.0.2.7",
        "X-Client-Request-ID": "mine",
        "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }
    client.post("/", json={"prompt": "a", "max_length": 1}, headers=headers)
    client.post("/v1/nope", headers=headers | {"traceparent": f"00-{'0' * 32}-00f067aa0ba902b7-01"})
    answered, refused = recorder.request().caller, recorder.refused[0].caller
    asked = Caller(path="/v1/nope", address="192.0.2.7", user_agent="agent/1", request_id="mine")
    assert answered == replace(asked, path="/", trace_id=trace, parent_id="00f067aa0ba902b7")
    assert refused == asked, "a trace of zeros is none"


@pytest.mark.parametrize(
    ("sent", "told"), [("café/1".encode(), "café/1"), (b"caf\xe9/1", "café/1"), (b"plain/1", "plain/1")]
)
def test_a_programs_name_is_read_as_what_most_programs_send(
    make_client: MakeClient, recorder: Recorder, sent: bytes, told: str
) -> None:
    make_client(ControlledEngine()).post("/v1/nope", headers={b"User-Agent": sent})
    (refused,) = recorder.refused
    assert refused.caller is not None
    assert refused.caller.user_agent == told


def test_where_traces_are_sent_every_request_has_one(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ControlledEngine(), otel_exporter_otlp_endpoint="http://127.0.0.1:9")
    client.get("/nope")
    client.get("/nope")
    ids = [refused.caller.trace_id for refused in recorder.refused if refused.caller is not None]
    assert len(set(ids)) == 2
    assert all(trace is not None and len(trace) == 32 for trace in ids)


def test_what_the_service_refuses_is_told_by_the_service_alone(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ControlledEngine(ready=False))
    assert client.post("/", json={"prompt": "a"}).status_code == 503
    assert recorder.request().error_code == "model_loading"
    assert recorder.refused == []


def test_what_nobody_expected_is_a_500_without_details(
    make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, recorder: Recorder
) -> None:
    engine = ControlledEngine()
    client = make_client(engine)

    def fail() -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(engine, "status", fail)
    with caplog.at_level(logging.ERROR):
        response = client.post("/", json={"prompt": "a"})
    assert response.status_code == 500
    assert response.json()["error"]["code"] == "internal_error"
    assert "secret detail" not in response.text
    assert "secret detail" in caplog.text  # with its traceback
    assert recorder.request().error_code == "internal_error"
    assert recorder.requests.empty()
    assert recorder.refused == []


class TestBodyLimit:
    def test_a_body_that_says_it_is_too_large(self, make_client: MakeClient) -> None:
        client = make_client(ControlledEngine(), max_body_bytes=1024)
        response = client.post("/", json={"prompt": "a" * 1024})
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"

    def test_a_chunked_body_that_turns_out_to_be(self, make_client: MakeClient) -> None:
        def chunks() -> Iterator[bytes]:
            yield b'{"prompt": "'
            for _ in range(20):
                yield b"a" * 100

        client = make_client(ControlledEngine(), max_body_bytes=1024)
        response = client.post("/", content=chunks(), headers={"Content-Type": "application/json"})
        assert response.status_code == 413

    def test_a_body_below_the_limit(self, make_client: MakeClient) -> None:
        client = make_client(ControlledEngine(), max_body_bytes=1024)
        assert client.post("/", json={"prompt": "a" * 900, "max_length": 1}).status_code == 200


class TestKeys:
    @pytest.fixture
    def guarded(self, make_client: MakeClient, tmp_path: Path) -> TestClient:
        file = tmp_path / "keys"
        file.write_text("# teams\nblue:key-of-blue\n\nred: key-of-red-é\n", encoding="utf-8")
        return make_client(ControlledEngine(), api_keys_file=file)

    @pytest.mark.parametrize(
        "header",
        [
            {},
            {"Authorization": "Bearer "},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic key-of-blue"},
            {"Authorization": "key-of-blue"},
            {"Authorization": "Bearer key-of-blu"},
            {"Authorization": b"Bearer \xff"},
        ],
    )
    @pytest.mark.parametrize("path", ["/", "/nope", "//livez", "/livez/x"])
    def test_everything_needs_a_key(self, guarded: TestClient, header: dict[str, str], path: str) -> None:
        response = guarded.post(path, json={"prompt": "a"}, headers=header)
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "unauthorized"
        assert response.headers["www-authenticate"] == "Bearer"
        assert "key-of" not in response.text

    def test_the_probes_need_none(self, guarded: TestClient) -> None:
        for path in ("/livez", "/readyz", "/startupz", "/metrics"):
            assert guarded.get(path).status_code == 200

    def test_the_name_of_the_key_is_the_tenant(self, guarded: TestClient, recorder: Recorder) -> None:
        headers = {"Authorization": "bearer key-of-blue"}
        assert guarded.post("/", json={"prompt": "a", "max_length": 1}, headers=headers).status_code == 200
        assert recorder.generation().tenant == "blue"

    def test_without_keys_everybody_is_anonymous(self, client: TestClient, recorder: Recorder) -> None:
        client.post("/", json={"prompt": "a"})
        assert recorder.generation().tenant == "anonymous"

    @pytest.mark.parametrize("content", ["", "# nothing\n", "nokey\n", "a:\n", ":key\n", "a:1\na:2\n"])
    def test_an_unusable_file_stops_the_start(self, tmp_path: Path, content: str) -> None:
        file = tmp_path / "keys"
        file.write_text(content)
        with pytest.raises(SettingsError, match="API_KEYS_FILE"):
            KeyBook(file)

    def test_a_missing_file_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            KeyBook(tmp_path / "none")


def line(name: str, **fields: object) -> str:
    """Of the keys file, for the key `key-of-NAME`."""
    return json.dumps({"name": name, "sha256": hash_of(f"key-of-{name}")} | fields) + "\n"


class TestTerms:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "keys"
        file.write_text(line("small", requests=1, prompt_tokens=40) + "large:key-of-large\n", encoding="utf-8")
        return file

    def test_a_key_beyond_its_own_limit_is_refused_and_another_is_not(
        self, serve: Serve, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.keys.book.LOOK_SECONDS", 0.0)
        gate = asyncio.Event()
        server = serve(ControlledEngine(range(100, 110), gates={1: gate}), api_keys_file=file)
        body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5}

        def ask(name: str, **fields: object) -> httpx.Response:
            headers = {"Authorization": f"Bearer key-of-{name}"}
            return httpx.post(server.url + "v1/chat/completions", json=body | fields, headers=headers)

        headers = {"Authorization": "Bearer key-of-small"}
        with httpx.stream(
            "POST", server.url + "v1/chat/completions", json=body | {"stream": True}, headers=headers
        ) as running:
            assert running.status_code == 200
            assert running.headers["x-ratelimit-limit-requests"] == "1"
            assert running.headers["x-ratelimit-remaining-requests"] == "0"
            assert running.headers["x-ratelimit-limit-tokens"] == "40"
            refused = ask("small")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
            assert "its limit is 1" in refused.json()["error"]["message"]
            assert int(refused.headers["retry-after"]) >= 1
            other = ask("large", max_tokens=1)
            assert other.status_code == 200
            assert int(other.headers["x-ratelimit-limit-requests"]) > 1
            file.write_text(line("small", requests=2) + "large:key-of-large\n", encoding="utf-8")
            assert ask("small", max_tokens=1).status_code == 200, "a limit that was raised holds at once"
            server.call(gate.set)
            running.read()

    def test_what_may_be_logged_is_fixed_when_the_request_comes(
        self, serve: Serve, file: Path, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So neither a looser mode nor a key that is gone shows what was said under a stricter one."""
        monkeypatch.setattr("app.keys.book.LOOK_SECONDS", 0.0)
        file.write_text(line("quiet", log_content="off") + "other:key-of-other\n", encoding="utf-8")
        gate = asyncio.Event()
        server = serve(ControlledEngine(range(100, 110), gates={1: gate}), api_keys_file=file)
        body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "stream": True}
        headers = {"Authorization": "Bearer key-of-quiet"}
        with httpx.stream("POST", server.url + "v1/chat/completions", json=body, headers=headers) as running:
            assert running.status_code == 200
            file.write_text("other:key-of-other\n", encoding="utf-8")
            assert httpx.get(server.url + "v1/models", headers=headers).status_code == 401
            server.call(gate.set)
            running.read()
        assert recorder.generation().terms.log_content == "off"

    def test_what_a_key_may_never_have_is_a_400(self, make_client: MakeClient, file: Path) -> None:
        client = make_client(ControlledEngine(), api_keys_file=file)
        headers = {"Authorization": "Bearer key-of-small"}
        several = client.post("/v1/completions", json={"prompt": "a", "n": 2}, headers=headers)
        assert several.status_code == 400
        assert several.json()["error"]["message"] == "This API key allows at most 1 answers at once."
        long = client.post("/v1/completions", json={"prompt": "word " * 41}, headers=headers)
        assert (long.status_code, long.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert "this API key's limit is 40" in long.json()["error"]["message"]


class TestReload:
    @pytest.fixture
    def file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("app.keys.book.LOOK_SECONDS", 0.0)
        file = tmp_path / "keys"
        file.write_text("blue:key-of-blue\nred:key-of-red\n", encoding="utf-8")
        return file

    def status(self, client: TestClient, key: str) -> int:
        return client.get("/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code

    @pytest.mark.parametrize(
        ("fields", "told"),
        [
            ({"expires": "2024-02-29"}, "This API key expired at 2024-02-29 00:00 UTC."),
            ({"revoked": "2024-02-29T12:30:00+02:00"}, "This API key was revoked at 2024-02-29 10:30 UTC."),
        ],
    )
    def test_who_has_a_key_that_ended_is_told_so(
        self, make_client: MakeClient, file: Path, fields: dict[str, str], told: str
    ) -> None:
        file.write_text(line("old", **fields) + "blue:key-of-blue\n", encoding="utf-8")
        client = make_client(ControlledEngine(), api_keys_file=file)
        response = client.get("/v1/models", headers={"Authorization": "Bearer key-of-old"})
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.json()["error"]["message"].startswith(told)
        assert response.headers["www-authenticate"] == "Bearer"
        assert self.status(client, "key-of-blue") == 200

    def test_a_new_key_works_and_a_removed_one_does_not_while_the_server_runs(
        self, make_client: MakeClient, file: Path
    ) -> None:
        client = make_client(ControlledEngine(), api_keys_file=file)
        assert [self.status(client, f"key-of-{name}") for name in ("blue", "red", "new")] == [200, 200, 401]
        file.write_text("red:key-of-red\n" + line("new", expires="2999-01-01"), encoding="utf-8")
        assert [self.status(client, f"key-of-{name}") for name in ("blue", "red", "new")] == [401, 200, 200]

    def test_an_answer_that_runs_goes_on_when_its_key_is_revoked(self, serve: Serve, file: Path) -> None:
        gate = asyncio.Event()
        server = serve(ControlledEngine(range(100, 110), gates={1: gate}), api_keys_file=file)
        body = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 5, "stream": True}
        headers = {"Authorization": "Bearer key-of-blue"}
        with httpx.stream("POST", server.url + "v1/chat/completions", json=body, headers=headers) as response:
            lines = response.iter_lines()
            assert response.status_code == 200
            next(lines)
            file.write_text("red:key-of-red\n", encoding="utf-8")
            assert httpx.post(server.url + "v1/chat/completions", json=body, headers=headers).status_code == 401
            server.call(gate.set)
            rest = list(lines)
        assert rest[-2:] == ["data: [DONE]", ""]
        assert '"finish_reason":"length"' in rest[-4]

    @pytest.mark.parametrize("content", [None, "", "# nothing\n", '{"name": "blue"}\n', "\n\nblue\n"])
    def test_a_file_that_became_unusable_changes_nothing_and_is_told_once(
        self, make_client: MakeClient, file: Path, caplog: pytest.LogCaptureFixture, content: str | None
    ) -> None:
        client = make_client(ControlledEngine(), api_keys_file=file)
        if content is None:
            file.unlink()
        else:
            file.write_text(content, encoding="utf-8")
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                assert [self.status(client, f"key-of-{name}") for name in ("blue", "red", "new")] == [200, 200, 401]
        (record,) = caplog.records
        assert str(file) in record.getMessage()
        assert "key-of" not in record.getMessage()
        file.write_text("new:key-of-new\n", encoding="utf-8")
        assert [self.status(client, f"key-of-{name}") for name in ("blue", "red", "new")] == [401, 401, 200]
