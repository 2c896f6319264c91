"""What every request passes: the id, the key, the body's bound, our envelope for every error."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from app.api.http.api_keys import load_keys
from app.api.http.middleware.request_id import RequestId
from app.settings import SettingsError
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

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
    assert (recorder.refused[0].id, recorder.refused[0].path, recorder.refused[0].status) == ("one", "/nope", 404)
    assert recorder.requests.empty()
    client.post("/", json={"prompt": "a", "max_length": 1})
    assert recorder.request().status == 200
    assert len(recorder.refused) == 4


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
            load_keys(file)

    def test_a_missing_file_stops_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="cannot be read"):
            load_keys(tmp_path / "none")
