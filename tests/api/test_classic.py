"""`POST /` as its clients know it."""

import json
import re

import pytest
from starlette.testclient import TestClient

from app.contract.engine import Capacity
from app.contract.errors import OutOfMemory
from app.contract.requests import SamplingParams
from tests.api.conftest import ANSWER, OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")


def events(text: str) -> list[dict[str, object]]:
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


def assert_error(response_json: dict[str, object], status: int, code: str) -> None:
    assert set(response_json) == {"status", "error", "time"}
    assert response_json["status"] == status
    error = response_json["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    assert error["message"]


def test_the_curl_client(client: TestClient) -> None:
    body = '{"prompt": "你好", "history": []}'
    response = client.post("/", content=body.encode(), headers={"Content-Type": "application/json"})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert list(answer) == ["response", "history", "status", "time"]
    assert answer["response"] == ANSWER  # its leading space included
    assert answer["history"] == [["你好", ANSWER]]
    assert answer["status"] == 200
    assert TIME.fullmatch(answer["time"])
    assert "你好" in response.content.decode()  # UTF-8, not \u escapes


def test_the_history_can_be_sent_back_as_it_is(client: TestClient, recorder: Recorder) -> None:
    first = client.post("/", json={"prompt": "a", "history": []}).json()
    second = client.post("/", json={"prompt": "b", "history": first["history"]}).json()
    assert second["history"] == [["a", ANSWER], ["b", ANSWER]]
    recorder.request()
    contents = [message.content for message in recorder.generation().messages]
    assert contents == ["a", ANSWER, "b"]


def test_a_missing_history_and_falsy_values_take_the_defaults(client: TestClient, recorder: Recorder) -> None:
    response = client.post("/", json={"prompt": "a", "temperature": 0, "top_p": None, "top_k": "", "max_length": []})
    assert response.status_code == 200
    request = recorder.generation()
    assert request.max_tokens == 1024
    assert request.sampling == SamplingParams(
        seed=request.sampling.seed, temperature=0.95, top_p=0.7, top_k=5, repetition_penalty=1.1
    )


def test_a_stream_ends_with_the_whole_envelope(client: TestClient, recorder: Recorder) -> None:
    response = client.post("/", json={"prompt": "a", "history": [["q", "r"]], "stream": True})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-accel-buffering"] == "no"
    assert response.headers["cache-control"] == "no-store"
    *deltas, last = events(response.text)
    assert len(deltas) > 3
    assert "".join(str(delta["delta"]) for delta in deltas) == ANSWER
    assert all(list(delta) == ["delta"] for delta in deltas)
    assert last["response"] == ANSWER
    assert last["history"] == [["q", "r"], ["a", ANSWER]]
    assert last["status"] == 200
    assert recorder.generation().stream


def test_an_error_midway(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory."))))
    whole = client.post("/", json={"prompt": "a"})
    assert whole.status_code == 500
    assert_error(whole.json(), 500, "out_of_memory")
    stream = client.post("/", json={"prompt": "a", "stream": True})
    assert stream.status_code == 200
    *deltas, last = events(stream.text)
    assert len(deltas) == 2
    assert_error(last, 500, "out_of_memory")


@pytest.mark.parametrize("stream", [False, True])
def test_a_refusal_comes_before_a_200(make_client: MakeClient, stream: bool) -> None:
    client = make_client(ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=100)), max_waiting=0)
    refused = client.post("/", json={"prompt": "word " * 300, "stream": stream})
    assert refused.status_code == 400
    assert_error(refused.json(), 400, "prompt_too_long")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"prompt": "secret-text", "n": 2}', 400, "unsupported_field"),
        (b'{"prompt": "secret-text", "max_length": "5"}', 400, "invalid_request"),
        (b'{"prompt": "secret-text \\ud800"}', 400, "invalid_request"),
        (b'{"prompt": "secret-text", "top_p": NaN}', 400, "invalid_request"),
        (b'{"prompt": "secret-text", "history": ' + b"[" * 40_000 + b"]" * 40_000 + b"}", 400, "invalid_request"),
        (b'{"prompt": "secret-text', 400, "invalid_request"),
        (b'{"history": []}', 400, "invalid_request"),
        (b"\xff\xfe", 400, "invalid_request"),
    ],
)
def test_bad_requests_get_the_envelope_and_are_not_repeated(
    client: TestClient, body: bytes, status: int, code: str
) -> None:
    response = client.post("/", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status
    assert_error(response.json(), status, code)
    assert "secret-text" not in response.text


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""])
def test_only_json_is_taken(client: TestClient, media_type: str) -> None:
    response = client.post("/", content=b'{"prompt": "a"}', headers={"Content-Type": media_type})
    assert_error(response.json(), 415, "unsupported_media_type")


def test_json_may_name_its_charset(client: TestClient) -> None:
    response = client.post(
        "/", content=b'{"prompt": "a"}', headers={"Content-Type": "Application/JSON; charset=utf-8"}
    )
    assert response.status_code == 200
