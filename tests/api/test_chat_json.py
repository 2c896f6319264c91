"""Tools and structured output at `/v1/chat/completions`."""

import json
import logging
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from starlette.testclient import TestClient

from app.contract.requests import ToolCall
from app.serving.prompt.prompts import Prompts
from app.serving.tools.format import call_text
from tests.api.chatting import PATH, USER, ask, refused, stream
from tests.api.conftest import OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.openai_types import frames
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

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


def test_calls_that_are_required_end_when_they_repeat(make_client: MakeClient, prompts: Prompts) -> None:
    script = prompts.tokenizer.encode(call_text(ToolCall("", "weather", '{"city": "Oslo"}')) + "\n").ids
    client = make_client(ControlledEngine(script * 20))
    (choice,) = ask(client, tools=[WEATHER], tool_choice="required", max_tokens=1000).choices
    assert choice.finish_reason == "tool_calls"
    assert len(choice.message.tool_calls or []) == 1
    chunks = stream(client, tools=[WEATHER], tool_choice="required", max_tokens=1000)
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert {delta.index for delta in deltas} == {0}
    assert "".join(delta.function.arguments or "" for delta in deltas if delta.function) == '{"city": "Oslo"}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("length", [1, 2, 6, 10])
def test_a_call_that_is_cut_leaves_no_words(client: TestClient, length: int) -> None:
    (choice,) = ask(client, tools=[WEATHER], tool_choice="required", max_tokens=length).choices
    assert (choice.finish_reason, choice.message.content or "") == ("length", "")


def test_a_structured_answer(client: TestClient) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}
    for choice in ask(client, response_format=schema, n=2).choices:
        assert choice.finish_reason == "stop"
        assert json.loads(choice.message.content or "") == {"city": "Oslo"}


def test_a_stop_string_ends_json_too(client: TestClient) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
    (choice,) = ask(client, response_format=schema, stop=["Oslo"]).choices
    assert (choice.message.content, choice.finish_reason) == ('{"city": "', "stop")


def test_a_schema_that_cannot_be_kept_to_is_refused(client: TestClient) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "not": {}}}}
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


COMPLEX = {
    "type": "object",
    "properties": {"a": {"type": "string"}, "b": {"type": "string", "pattern": "^(a?){500}a{500}$"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


def test_a_grammar_that_grows_too_complex_ends_the_answer_which_keeps_its_text(
    make_client: MakeClient, prompts: Prompts, recorder: Recorder
) -> None:
    script = prompts.tokenizer.encode('{"a": "kept words", "b": "aaaa', add_special_tokens=False).ids
    client = make_client(ControlledEngine(script))
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": COMPLEX}}
    body = {"messages": [USER], "response_format": schema, "n": 2, "max_tokens": 100}
    for choice in client.post(PATH, json=body).json()["choices"]:
        assert choice["message"]["content"].startswith('{"a": "kept words"')
        assert choice["finish_reason"] == "length"
        assert choice["error"]["code"] == "grammar_exhausted"
        assert "too complex" in choice["error"]["message"]
    told = recorder.request()
    assert (told.status, told.error_code) == (200, "grammar_exhausted")
    chunks = frames(client.post(PATH, json=body | {"stream": True, "n": 1}).text)
    assert "kept words" in "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    last = chunks[-1]["choices"][0]
    assert (last["finish_reason"], last["error"]["code"]) == ("length", "grammar_exhausted")


CATALOGUE: list[dict[str, Any]] = [
    {"ids": {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}},
    {"id": {"type": "integer", "format": "int64"}},
    {"labels": {"type": "object", "propertyNames": {"pattern": "^[a-z]+$"}}},
    {"range": {"type": "array", "items": [{"type": "integer"}, {"type": "integer"}]}},
]


def test_other_peoples_tools_are_taken_and_what_is_not_enforced_is_logged_once(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{number}", "parameters": {"type": "object", "properties": properties}},
        }
        for number, properties in enumerate(CATALOGUE)
    ]
    with caplog.at_level(logging.INFO, logger="app.serving"):
        for _ in range(3):
            assert ask(client, tools=tools, max_tokens=5).choices
    said = [vars(record) for record in caplog.records if hasattr(record, "not_enforced")]
    assert [(line["tool"], line["not_enforced"]) for line in said] == [
        ("tool_0", ["properties.ids.uniqueItems"]),
        ("tool_2", ["properties.labels.propertyNames"]),
    ]
    tools[0]["function"]["strict"] = True  # type: ignore[index]  # a literal of several types
    error = refused(client, {"messages": [USER], "tools": tools})
    assert error.param == "tools"
    assert error.message == (
        "The JSON schema of the tool tool_0 cannot be enforced: uniqueItems is not supported, at properties.ids."
    )


def test_a_bound_that_is_too_high_is_dropped_for_a_tool_and_refused_where_it_is_strict(client: TestClient) -> None:
    long = {"type": "object", "properties": {"x": {"type": "string", "maxLength": 100_000}}}
    tool: dict[str, Any] = {"type": "function", "function": {"name": "f", "parameters": long}}
    ask(client, tools=[tool], max_tokens=5)
    tool["function"]["strict"] = True
    assert "maxLength" in refused(client, {"messages": [USER], "tools": [tool]}).message
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": long}}
    assert "maxLength" in refused(client, {"messages": [USER], "response_format": schema}).message
