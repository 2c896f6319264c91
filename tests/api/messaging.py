"""Asks `/v1/messages` in a test, and reads every shape with the types of Anthropic's own package."""

from typing import Any

from anthropic.types.shared import ErrorResponse
from starlette.testclient import TestClient

from tests.support.anthropic_types import read_error, read_message, read_stream

PATH = "/v1/messages"
USER = {"role": "user", "content": "你好"}
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "It tells.",
    "input_schema": {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 8}},
        "required": ["town"],
        "additionalProperties": False,
    },
}
ONE_CALL = {"type": "any", "disable_parallel_tool_use": True}


def ask(client: TestClient, **fields: Any) -> Any:
    """A Message. `Any`, because the package's union of blocks has few attributes in common."""
    response = client.post(PATH, json={"messages": [USER]} | fields)
    assert response.status_code == 200, response.text
    return read_message(response.json())


def stream(client: TestClient, **fields: Any) -> list[Any]:
    response = client.post(PATH, json={"messages": [USER], "stream": True} | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return list(read_stream(response.text))


def refused(
    client: TestClient, fields: dict[str, Any], status: int = 400, path: str = PATH
) -> tuple[ErrorResponse, Any]:
    """The official object, and ours beside its fields: `param` and `code`."""
    response = client.post(path, json={"messages": [USER]} | fields)
    assert response.status_code == status, response.text
    assert "secret" not in response.text
    assert response.headers["request-id"] == response.json()["request_id"]
    return read_error(response.json()), response.json()["error"]
