"""What `/v1/chat/completions` refuses, and what it says."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk
from starlette.testclient import TestClient

from app.contract.engine import Capacity
from app.contract.errors import OutOfMemory
from tests.api.chatting import PATH, USER, ask, refused
from tests.api.conftest import OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.official_types import read_as
from tests.support.openai_types import frames, read_error
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH


def test_an_error_midway(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory."))))
    error = refused(client, {"messages": [USER]}, 500)
    assert (error.type, error.code) == ("server_error", "out_of_memory")
    response = client.post(PATH, json={"messages": [USER], "stream": True, "stream_options": {"include_usage": True}})
    assert response.status_code == 200
    *chunks, last = frames(response.text)
    assert len([read_as(ChatCompletionChunk, chunk) for chunk in chunks]) == 3
    assert list(last) == ["error"]
    assert read_error(last).code == "out_of_memory"


@pytest.mark.local_engine("before a server has answered no request is understood")
@pytest.mark.parametrize(
    ("path", "body"), [(PATH, {"messages": [USER]}), ("/v1/completions", {"prompt": "a"})], ids=["chat", "text"]
)
def test_each_refusal_is_told_to_the_observers_once(
    make_client: MakeClient, recorder: Recorder, path: str, body: dict[str, Any]
) -> None:
    client = make_client(ControlledEngine(ready=False))
    assert client.post(path, json=body).status_code == 503
    assert recorder.request().error_code == "model_loading"
    assert recorder.refused == []
    assert client.post(path, json=body | {"n": 0}).status_code == 400
    assert [refusal.error_code for refusal in recorder.refused] == ["invalid_request"]
    assert recorder.requests.empty()


@pytest.mark.local_engine("a gateway has no KV cache")
@pytest.mark.parametrize("streamed", [False, True])
def test_refusals_come_before_a_200(make_client: MakeClient, streamed: bool) -> None:
    loading = make_client(ControlledEngine(ready=False))
    error = refused(loading, {"messages": [USER], "stream": streamed}, 503)
    assert (error.type, error.code) == ("server_error", "model_loading")
    full = make_client(ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=40)), max_waiting=0)
    long = {"role": "user", "content": "word " * 300}
    error = refused(full, {"messages": [long], "stream": streamed})
    assert (error.type, error.code) == ("invalid_request_error", "context_length_exceeded")
    assert error.param == "messages"
    assert refused(full, {"messages": [USER], "n": 2, "stream": streamed}).param == "n"


def test_another_model_is_not_here(client: TestClient, recorder: Recorder) -> None:
    error = refused(client, {"messages": [USER], "model": "secret"}, 404)
    assert (error.code, error.param) == ("model_not_found", "model")
    assert [refusal.error_code for refusal in recorder.refused] == ["model_not_found"]
    assert recorder.requests.empty()
    ask(client, model="")
    assert recorder.request().model == "scripted"


@pytest.mark.parametrize(
    "body",
    [
        b'{"messages": [{"role": "user", "content": "secret"',
        b'{"messages": [{"role": "user", "content": "secret \\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "secret"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "secret"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "secret", "content": "secret"}]}',
        b'{"messages": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
        b'{"messages": [{"role": "user", "content": "secret"}], "tools": [{"type": "function", "function": {"name": '
        b'"a", "parameters": ' + b'{"a":' * 40_000 + b"1" + b"}" * 40_000 + b"}}]}",
        b'{"messages": [{"role": "user", "content": "secret"}], "n": ' + b"9" * 5000 + b"}",
        b'["secret"]',
        b"\xff",
        b"",
    ],
)
def test_bad_bodies_are_refused_and_not_repeated(client: TestClient, body: bytes) -> None:
    assert refused(client, body).type == "invalid_request_error"


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-Type": "text/plain"}, "Content-Type: application/json"),
        ({"Content-Type": "application/vnd.secret+json"}, "Content-Type: application/json"),
        ({}, "Content-Type: application/json"),
        ({"Content-Type": "application/json", "Content-Encoding": "gzip"}, "without a Content-Encoding"),
    ],
)
def test_only_plain_json_is_taken(client: TestClient, headers: dict[str, str], said: str) -> None:
    response = client.post(PATH, content=b'{"messages": []}', headers=headers)
    assert response.status_code == 415
    error = read_error(response.json())
    assert (error.code, said in error.message) == ("unsupported_media_type", True)


def test_json_may_name_its_charset(client: TestClient) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "你好"}]}, ensure_ascii=False)
    headers = {"Content-Type": "Application/JSON; charset=utf-8", "Content-Encoding": "identity"}
    assert client.post(PATH, content=body.encode(), headers=headers).status_code == 200


def test_a_body_that_is_too_large(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine(), max_body_bytes=1024)
    assert refused(client, {"messages": [{"role": "user", "content": "secret" * 300}]}, 413).code == "body_too_large"


def test_the_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    response = client.get(PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.headers["cache-control"] == "no-store"
    assert read_error(response.json()).code == "method_not_allowed"


JSON = {"response_format": {"type": "json_object"}}
TOOLS = {"tools": [{"type": "function", "function": {"name": "time"}}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (JSON | {"ignore_eos": True}, "ignore_eos"),
        (JSON | {"min_tokens": 1}, "min_tokens"),
        (TOOLS | {"ignore_eos": True}, "ignore_eos"),
        (TOOLS | {"min_tokens": 1}, "min_tokens"),
    ],
)
def test_json_and_calls_end_where_they_end(client: TestClient, fields: dict[str, Any], param: str) -> None:
    assert refused(client, {"messages": [USER]} | fields).param == param
    uncalled = fields | {"response_format": {"type": "text"}, "tool_choice": "none", "max_tokens": 2}
    assert ask(client, **uncalled).choices[0].finish_reason == "length"
