"""Asks `/v1/chat/completions` in a test, and reads every shape with the types of OpenAI's own package."""

import json
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from starlette.testclient import TestClient

from tests.support.official_types import read_as
from tests.support.openai_types import frames, read_error

PATH = "/v1/chat/completions"
USER = {"role": "user", "content": "你好"}


def ask(client: TestClient, **fields: Any) -> ChatCompletion:
    response = client.post(PATH, json={"messages": [USER]} | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return read_as(ChatCompletion, response.json())


def stream(client: TestClient, **fields: Any) -> list[ChatCompletionChunk]:
    response = client.post(PATH, json={"messages": [USER], "stream": True} | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return [read_as(ChatCompletionChunk, chunk) for chunk in frames(response.text)]


def refused(client: TestClient, body: Any, status: int = 400) -> ErrorObject:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = client.post(PATH, content=content, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    assert "secret" not in response.text
    return read_error(response.json())
