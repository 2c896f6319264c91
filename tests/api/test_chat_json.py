"""Tools and structured output at `/v1/chat/completions`."""

import json

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from starlette.testclient import TestClient

from tests.api.chatting import PATH, USER, ask, refused, stream
from tests.support.recorder import Recorder

CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": CITY}}


def test_a_tool_call(client: TestClient, recorder: Recorder) -> None:
    (choice,) = ask(client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    (call,) = choice.message.tool_calls or []
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Oslo"})
    assert "Oslo" in recorder.request().response
    state = ChatCompletionStreamState()
    chunks = stream(client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    for chunk in chunks:
        state.handle_chunk(chunk)
    (streamed,) = state.get_final_completion().choices
    assert streamed.finish_reason == "tool_calls"
    (again,) = streamed.message.tool_calls or []
    assert again.function.arguments == call.function.arguments
    assert again.id != call.id


@pytest.mark.parametrize("length", [1, 2, 6, 10])
def test_a_call_that_is_cut_leaves_no_words(client: TestClient, length: int) -> None:
    (choice,) = ask(client, tools=[WEATHER], tool_choice="required", max_tokens=length).choices
    assert (choice.finish_reason, choice.message.content or "") == ("length", "")


def test_a_structured_answer(client: TestClient) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    for choice in ask(client, response_format=schema, n=2).choices:
        assert choice.finish_reason == "stop"
        assert json.loads(choice.message.content or "") == {"city": "Oslo"}


def test_a_schema_that_cannot_be_kept_to_is_refused(client: TestClient) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "if": {}}}}
    assert refused(client, {"messages": [USER], "response_format": schema}).param == "response_format"


@pytest.mark.parametrize("depth", [50, 900])
def test_deep_schemas_are_answered_or_refused(client: TestClient, depth: int) -> None:
    text = '{"type": "array", "items": ' * depth + "{}" + "}" * depth
    for field in (
        '"tools": [{"type": "function", "function": {"name": "a", "parameters": %s}}]',
        '"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": %s}}',
    ):
        body = '{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, ' + field % text + "}"
        response = client.post(PATH, content=body, headers={"Content-Type": "application/json"})
        assert response.status_code in (200, 400)
