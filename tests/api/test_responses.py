"""`/v1/responses`, whole and streamed, read with the types of OpenAI's own package."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from openai import BaseModel
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_function_tool_call import ResponseFunctionToolCall
from openai.types.responses.response_output_message import ResponseOutputMessage
from openai.types.shared import ErrorObject
from pydantic import TypeAdapter
from starlette.testclient import TestClient

from app.contract.errors import OutOfMemory
from app.contract.requests import Message, ToolCall, ToolChoice
from app.engine.scripted import SCRIPTED_MODEL
from app.serving.prompt.prompts import Prompts
from app.serving.tools.format import call_text
from tests.api.conftest import ANSWER, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.official_types import read_as
from tests.support.openai_types import read_error
from tests.support.recorder import Recorder

PATH = "/v1/responses"
WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "It tells.",
    "parameters": {
        "type": "object",
        "properties": {"town": {"type": "string", "maxLength": 8}},
        "required": ["town"],
        "additionalProperties": False,
    },
    "strict": True,
}
CALL = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"town": "Oslo"}'}
OUTPUT = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
OURS = {"timings", "store"}
EVENTS: TypeAdapter[BaseModel] = TypeAdapter(ResponseStreamEvent)


def ask(client: TestClient, **fields: Any) -> Any:
    """A Response. `Any`, because the package's union of items has few attributes in common."""
    response = client.post(PATH, json={"input": "你好"} | fields)
    assert response.status_code == 200, response.text
    return read_as(Response, response.json(), ours=OURS)


def stream(client: TestClient, **fields: Any) -> list[Any]:
    """The events, each with the official type of its name; numbered without a gap."""
    response = client.post(PATH, json={"input": "你好", "stream": True} | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    events = list(parsed(response.text))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    return events


def parsed(text: str) -> Iterator[Any]:
    for event in text.split("\n\n"):
        if event and not event.startswith(":"):
            name, data = event.split("\n")
            value = json.loads(data.removeprefix("data: "))
            assert name == f"event: {value['type']}"
            kind = type(EVENTS.validate_python(value))
            yield read_as(kind, value, ours=OURS)


def refused(client: TestClient, fields: dict[str, Any], status: int = 400) -> ErrorObject:
    response = client.post(PATH, json={"input": "hi"} | fields)
    assert response.status_code == status, response.text
    assert "secret" not in response.text
    return read_error(response.json())


def test_a_text_is_answered(client: TestClient, recorder: Recorder) -> None:
    response = ask(client, model="scripted", metadata={"team": "a"}, temperature=0.5, store=True)
    assert response.output_text == ANSWER
    assert (response.status, response.error, response.incomplete_details) == ("completed", None, None)
    assert response.model == SCRIPTED_MODEL.name
    assert (response.temperature, response.metadata) == (0.5, {"team": "a"})
    (message,) = response.output
    assert isinstance(message, ResponseOutputMessage)
    assert message.status == "completed"
    assert response.to_dict()["store"] is False
    finished = recorder.request().finished
    assert finished
    tokens = finished.usage.completion_tokens
    assert response.usage.output_tokens == tokens > 0
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


def test_a_stream_has_the_official_events_in_their_order(client: TestClient) -> None:
    events = stream(client)
    kinds = [event.type for event in events]
    deltas = kinds.count("response.output_text.delta")
    assert deltas > 1
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert "".join(event.delta for event in events[4 : 4 + deltas]) == ANSWER
    assert events[4 + deltas].text == ANSWER
    assert events[0].response.status == events[1].response.status == "in_progress"
    assert events[0].response.output == events[2].item.content == []
    assert events[2].item.status == "in_progress"
    assert events[-2].item == events[-1].response.output[0]
    assert events[-1].response.output_text == ANSWER
    assert events[-1].response.usage.output_tokens > 0
    assert {event.item_id for event in events[3:-2]} == {events[2].item.id}


def test_stream_and_whole_answer_say_the_same(client: TestClient) -> None:
    def without_ids(response: Any) -> Any:
        data = response.to_dict()
        for name in ("id", "created_at", "completed_at", "timings"):
            data.pop(name)
        for item in data["output"]:
            item.pop("id")
            item.pop("call_id", None)
        return data

    for fields in ({}, {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False}):
        last = stream(client, **fields)[-1]
        assert without_ids(last.response) == without_ids(ask(client, **fields))


@pytest.fixture
def random_client(make_client: MakeClient) -> TestClient:
    """Over the scripted engine's own tokens: grammars choose among them."""
    return make_client(ControlledEngine())


def test_a_tool_is_called(random_client: TestClient, recorder: Recorder) -> None:
    events = stream(random_client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    kinds = [event.type for event in events]
    deltas = kinds.count("response.function_call_arguments.delta")
    assert deltas > 1
    assert kinds[2:] == [
        "response.output_item.added",
        *["response.function_call_arguments.delta"] * deltas,
        "response.function_call_arguments.done",
        "response.output_item.done",
        "response.completed",
    ]
    (call,) = events[-1].response.output
    assert isinstance(call, ResponseFunctionToolCall)
    assert (call.name, call.status) == ("weather", "completed")
    assert "".join(event.delta for event in events[3 : 3 + deltas]) == call.arguments == events[-3].arguments
    assert set(json.loads(call.arguments)) == {"town"}
    request = recorder.generation()
    assert (request.tool_choice, request.parallel_tool_calls) == (ToolChoice("required"), False)
    assert request.tools[0].strict


def test_calls_that_are_required_end_when_they_repeat(make_client: MakeClient, prompts: Prompts) -> None:
    script = prompts.tokenizer.encode(call_text(ToolCall("", "weather", '{"town": "Oslo"}')) + "\n").ids
    client = make_client(ControlledEngine(script * 20))
    for response in (
        ask(client, tools=[WEATHER], tool_choice="required", max_output_tokens=1000),
        stream(client, tools=[WEATHER], tool_choice="required", max_output_tokens=1000)[-1].response,
    ):
        assert response.status == "completed"
        (call,) = response.output
        assert (call.status, call.arguments) == ("completed", '{"town": "Oslo"}')


def test_a_tool_can_be_named(random_client: TestClient) -> None:
    other = WEATHER | {"name": "other"}
    choice = {"type": "function", "name": "other"}
    (call,) = ask(random_client, tools=[WEATHER, other], tool_choice=choice, parallel_tool_calls=False).output
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "other"


def test_what_was_answered_can_be_sent_back(random_client: TestClient, recorder: Recorder) -> None:
    first = ask(random_client, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False)
    (call,) = first.output
    assert isinstance(call, ResponseFunctionToolCall)
    history = [{"role": "user", "content": "hi"}, *(item.to_dict() for item in first.output)]
    output = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": [{"type": "input_text", "text": "a"}],
    }
    recorder.generation()
    ask(random_client, input=[*history, output], tools=[WEATHER], tool_choice="none")
    messages = recorder.generation().messages
    assert messages[1:] == (
        Message("assistant", "", (ToolCall(call.call_id, "weather", call.arguments),)),
        Message("tool", "a", tool_call_id=call.call_id),
    )


def test_items_become_turns(client: TestClient, recorder: Recorder) -> None:
    parts = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    said = {"type": "output_text", "text": "Let me look.", "annotations": []}
    refusal = {"type": "refusal", "refusal": "No."}
    answer = {
        "type": "message",
        "id": "msg_1",
        "status": "completed",
        "role": "assistant",
        "content": [said, refusal],
    }
    items = [
        {"role": "developer", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "abc"},
        answer,
        CALL | {"id": "fc_1", "status": "completed"},
        OUTPUT,
        {"role": "user", "content": "And?"},
    ]
    ask(client, instructions="Be brief.", input=items)
    assert recorder.generation().messages == (
        Message("system", "Be brief."),
        Message("system", "Be kind."),
        Message("user", "one\ntwo"),
        Message("assistant", "Let me look.\nNo.", (ToolCall("call_1", "weather", '{"town": "Oslo"}'),)),
        Message("tool", "rain", tool_call_id="call_1"),
        Message("user", "And?"),
    )


def test_structured_output_fits_its_schema(random_client: TestClient) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "name": "person", "schema": schema, "strict": True}
    response = ask(random_client, text={"format": wanted})
    assert set(json.loads(response.output_text)) == {"age"}
    assert response.text.format.schema_ == schema


def test_a_cut_answer_is_incomplete(client: TestClient) -> None:
    for response in (ask(client, max_output_tokens=8), stream(client, max_output_tokens=8)[-1].response):
        assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        assert response.output[0].status == "incomplete"
        assert ANSWER.startswith(response.output_text)
        assert response.usage.output_tokens == 8
    assert stream(client, max_output_tokens=8)[-1].type == "response.incomplete"


def test_an_error_midway_fails_the_response(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script, fail=(8, OutOfMemory("The answer did not fit in memory."))))
    last = stream(client)[-1]
    assert (last.type, last.response.status) == ("response.failed", "failed")
    assert last.response.error.message == "The answer did not fit in memory."
    assert last.response.error.type == "out_of_memory"
    assert ANSWER.startswith(last.response.output_text)
    assert last.response.output_text
    assert refused(client, {}, status=500).code == "out_of_memory"


@pytest.mark.parametrize("field", ["previous_response_id", "conversation", "prompt"])
def test_what_is_stored_elsewhere_is_refused_by_name(client: TestClient, field: str) -> None:
    error = refused(client, {field: "secret"})
    assert (error.param, error.code) == (field, "unsupported_field")
    assert "stores nothing" in error.message


HARMLESS = {
    "store": True,
    "background": False,
    "include": ["reasoning.encrypted_content"],
    "reasoning": {"effort": "high", "summary": "auto"},
    "truncation": "auto",
    "top_logprobs": 0,
    "max_tool_calls": 4,
    "user": "me",
    "client_metadata": {"x-turn": "1"},
    "safety_identifier": "me",
    "prompt_cache_key": "key",
    "prompt_cache_retention": "24h",
    "service_tier": "flex",
    "top_p": 0,
    "max_output_tokens": -1,
    "logprobs": False,
    "stream_options": {"include_obfuscation": False},
    "text": {"verbosity": "medium", "format": {"type": "text"}},
    "tools": [],
    "tool_choice": "auto",
    "previous_response_id": None,
    "conversation": None,
    "unheard_of": None,
}


@pytest.mark.parametrize("field", HARMLESS)
def test_what_changes_no_answer_is_taken(client: TestClient, field: str) -> None:
    assert ask(client, **{field: HARMLESS[field]}).output_text == ANSWER


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"background": True}, "background", "must be false"),
        ({"top_logprobs": 2}, "top_logprobs", "must be less than or equal to 0"),
        ({"include": ["message.output_text.logprobs"]}, "include[0]", "must be"),
        ({"text": {"verbosity": "low"}}, "text.verbosity", "must be 'medium'"),
        ({"tools": [WEATHER, {"type": "web_search"}]}, "tools[1]", "must have the type function"),
        ({"tools": [{"type": "custom", "name": "secret"}]}, "tools[0]", "must have the type function"),
        ({"tool_choice": "required"}, "tool_choice", "requires a call"),
        ({"tool_choice": {"type": "secret"}}, "tool_choice", "must be"),
        ({"unheard_of": "secret"}, "unheard_of", "is not supported"),
        (
            {"stream_options": {"include_obfuscation": True}, "stream": True},
            "stream_options.include_obfuscation",
            "must be false",
        ),
        ({"input": 5}, "input", "must be a string or a list of items"),
        ({"input": []}, "input", "must have 1 to 4096 items"),
        ({"input": ["secret"]}, "input[0]", "must be an object"),
        ({"input": [{"type": "item_reference", "id": "secret"}]}, "input[0]", "send the item itself"),
        ({"input": [{"type": "secret"}]}, "input[0].type", "is not supported"),
        ({"input": [{"role": "secret", "content": "a"}]}, "input[0].role", "must be 'system'"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "secret"}]}]},
            "input[0].content[0].type",
            "must be 'input_text', 'output_text' or 'text'",
        ),
        ({"input": [CALL, OUTPUT | {"call_id": "secret"}]}, "input[1].call_id", "is not the id of a call"),
        ({"input": [CALL, OUTPUT, OUTPUT | {"output": None}]}, "input[2].output", "is required"),
        ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format.schema", "is required"),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object", "not": {}}}}},
            "text.format",
            "cannot be enforced: not",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: TestClient, fields: dict[str, Any], param: str, said: str
) -> None:
    error = refused(client, fields)
    assert error.param == param
    assert said in error.message


def test_an_input_that_is_too_long_is_named_as_such(client: TestClient) -> None:
    error = refused(client, {"input": "word " * 40_000})
    assert (error.param, error.code) == ("input", "context_length_exceeded")


def test_a_response_cannot_be_fetched_later(client: TestClient) -> None:
    assert client.get(f"{PATH}/resp_1").status_code == 404
