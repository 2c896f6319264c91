"""`/v1/messages`, whole and streamed, read with the types of Anthropic's own package."""

import json
import re
from typing import Any

import pytest
from anthropic.types import MessageTokensCount
from starlette.testclient import TestClient

from app.contract.engine import Capacity
from app.contract.errors import OutOfMemory
from app.contract.requests import Message, ToolCall, ToolChoice
from app.engine.scripted import SCRIPTED_MODEL
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import ANSWER, OVER_BOTH, MakeClient
from tests.api.messaging import ONE_CALL, PATH, USER, WEATHER, ask, refused, stream
from tests.api.test_chat_json import COMPLEX
from tests.support.anthropic_types import read_error
from tests.support.controlled import ControlledEngine
from tests.support.official_types import read_as
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

USE = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"town": "Oslo"}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "rain"}


def test_a_text_is_answered(client: TestClient, recorder: Recorder) -> None:
    message = ask(client, model="scripted", max_tokens=64, metadata={"user_id": "me"}, temperature=0.5, top_k=3)
    (block,) = message.content
    assert (block.type, block.text) == ("text", ANSWER)
    assert (message.stop_reason, message.stop_sequence) == ("end_turn", None)
    assert message.model == SCRIPTED_MODEL.name
    request = recorder.generation()
    assert (request.user, request.max_tokens) == ("me", 64)
    assert (request.sampling.temperature, request.sampling.top_k) == (0.5, 3)


def test_cached_tokens_are_counted_apart(make_client: MakeClient, script: list[int], recorder: Recorder) -> None:
    client = make_client(ControlledEngine(script, cached=7))
    for usage in (ask(client).usage, stream(client)[-2].usage):
        finished = recorder.request().finished
        assert finished
        assert usage.cache_read_input_tokens == 7
        assert usage.input_tokens + 7 == finished.usage.prompt_tokens
        assert usage.cache_creation_input_tokens == 0
        assert usage.output_tokens == finished.usage.completion_tokens


@pytest.mark.local_engine("the prompt's tokens are not known at the start")
def test_a_stream_has_the_official_events_in_their_order(client: TestClient) -> None:
    events = stream(client)
    kinds = [event.type for event in events]
    deltas = kinds.count("content_block_delta")
    assert deltas > 1
    assert kinds == [
        "message_start",
        "content_block_start",
        *["content_block_delta"] * deltas,
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    begun = events[0].message
    assert (begun.content, begun.stop_reason, begun.usage.output_tokens) == ([], None, 0)
    assert begun.usage.input_tokens > 0
    assert events[1].content_block.text == ""
    assert "".join(event.delta.text for event in events[2 : 2 + deltas]) == ANSWER
    assert {event.index for event in events[1:-2]} == {0}
    assert (events[-2].delta.stop_reason, events[-2].delta.stop_sequence) == ("end_turn", None)


@pytest.fixture
def random_client(make_client: MakeClient) -> TestClient:
    """Over the scripted engine's own tokens: grammars choose among them."""
    return make_client(ControlledEngine())


def test_a_tool_is_called(random_client: TestClient, recorder: Recorder) -> None:
    events = stream(random_client, tools=[WEATHER | {"strict": True}], tool_choice=ONE_CALL)
    start = events[1].content_block
    assert (start.type, start.name, start.input) == ("tool_use", "weather", {})
    pieces = [event.delta.partial_json for event in events if event.type == "content_block_delta"]
    assert len(pieces) > 1
    assert set(json.loads("".join(pieces))) == {"town"}
    assert events[-2].delta.stop_reason == "tool_use"
    request = recorder.generation()
    assert (request.tool_choice, request.parallel_tool_calls) == (ToolChoice("required"), False)
    assert request.tools[0].strict
    message = ask(random_client, tools=[WEATHER], tool_choice=ONE_CALL)
    (block,) = message.content
    assert (block.type, block.name, set(block.input)) == ("tool_use", "weather", {"town"})
    assert message.stop_reason == "tool_use"


@pytest.mark.parametrize(
    ("choice", "made"),
    [
        ({"type": "auto"}, (ToolChoice(), True)),
        ({"type": "auto", "disable_parallel_tool_use": True}, (ToolChoice(), False)),
        ({"type": "any", "disable_parallel_tool_use": False}, (ToolChoice("required"), True)),
        ({"type": "tool", "name": "weather"}, (ToolChoice("required", "weather"), True)),
        ({"type": "none"}, (ToolChoice("none"), True)),
    ],
)
def test_a_choice_among_tools(
    random_client: TestClient, recorder: Recorder, choice: dict[str, Any], made: tuple[ToolChoice, bool]
) -> None:
    ask(random_client, tools=[WEATHER], tool_choice=choice, max_tokens=16)
    request = recorder.generation()
    assert (request.tool_choice, request.parallel_tool_calls) == made


def test_blocks_become_turns(client: TestClient, recorder: Recorder) -> None:
    cached = {"cache_control": {"type": "ephemeral"}}
    failed = RESULT | {
        "tool_use_id": "toolu_2",
        "is_error": True,
        "content": [{"type": "text", "text": "no such town"}],
    }
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"} | cached]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
                {"type": "redacted_thinking", "data": "abc"},
                {"type": "text", "text": "Let me look.", "citations": None},
                USE | {"caller": {"type": "direct"}},
                USE | {"id": "toolu_2", "input": {}},
            ],
        },
        {"role": "user", "content": [RESULT | cached, failed, {"type": "text", "text": "And?"}]},
        {"role": "system", "content": "Be kind."},
    ]
    ask(client, system=[{"type": "text", "text": "Be"} | cached, {"type": "text", "text": "brief."}], messages=turns)
    calls = (ToolCall("toolu_1", "weather", '{"town": "Oslo"}'), ToolCall("toolu_2", "weather", "{}"))
    assert recorder.generation().messages == (
        Message("system", "Be\nbrief."),
        Message("user", "one\ntwo"),
        Message("assistant", "Let me look.", calls),
        Message("tool", "rain", tool_call_id="toolu_1"),
        Message("tool", "Error: no such town", tool_call_id="toolu_2"),
        Message("user", "And?"),
        Message("system", "Be kind."),
    )


def test_structured_output_fits_its_schema(random_client: TestClient) -> None:
    schema = {
        "type": "object",
        "properties": {"age": {"type": "integer", "minimum": 0, "maximum": 150}},
        "required": ["age"],
        "additionalProperties": False,
    }
    message = ask(
        random_client, output_config={"effort": "high", "format": {"type": "json_schema", "schema": schema}}
    )
    assert set(json.loads(message.content[0].text)) == {"age"}


def test_why_an_answer_stopped(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script))
    cut = ask(client, max_tokens=8)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 8)
    assert ANSWER.startswith(cut.content[0].text)
    stopped = ask(client, stop_sequences=["never", "return a"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "return a")
    assert stream(client, stop_sequences=["return a"])[-2].delta.stop_sequence == "return a"
    small = make_client(ControlledEngine([1000] * 100, capacity=Capacity(sequences=1, kv_tokens=64)))
    assert ask(small, max_tokens=1000).stop_reason == "model_context_window_exceeded"


def test_an_answer_that_a_grammar_ends_keeps_its_text_and_says_so(make_client: MakeClient, prompts: Prompts) -> None:
    script = prompts.tokenizer.encode('{"a": "kept words", "b": "aaaa', add_special_tokens=False).ids
    client = make_client(ControlledEngine(script))
    wanted = {"format": {"type": "json_schema", "schema": COMPLEX}}
    whole = ask(client, output_config=wanted, max_tokens=100)
    assert whole.content[0].text.startswith('{"a": "kept words"')
    for told in (whole.to_dict(), stream(client, output_config=wanted, max_tokens=100)[-2].to_dict()):
        assert told.get("delta", told)["stop_reason"] == "max_tokens"
        assert told["error"]["code"] == "grammar_exhausted"


def test_an_answer_without_a_word_has_an_empty_text(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine([]))
    (block,) = ask(client).content
    assert (block.type, block.text) == ("text", "")
    assert [event.type for event in stream(client)][1:3] == ["content_block_start", "content_block_stop"]


@pytest.mark.local_engine("the words are a gateway's own")
def test_an_error_midway_ends_the_stream(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script, fail=(8, OutOfMemory("The answer did not fit in memory."))))
    last = stream(client)[-1]
    assert last.type == "error"
    assert (last.error.type, last.error.message) == ("overloaded_error", "The answer did not fit in memory.")
    assert refused(client, {}, status=500)[1]["code"] == "out_of_memory"


HARMLESS = {
    "max_tokens": -1,
    "top_p": 0,
    "stop_sequences": [],
    "system": "",
    "tools": [],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "output_config": {"effort": "max"},
    "metadata": {"user_id": None},
    "cache_control": {"type": "ephemeral"},
    "service_tier": "auto",
    "speed": "fast",
    "inference_geo": "us",
    "container": None,
    "mcp_servers": [],
}


@pytest.mark.parametrize("field", HARMLESS)
def test_what_changes_no_answer_is_taken(client: TestClient, field: str) -> None:
    assert ask(client, **{field: HARMLESS[field]}).content[0].text == ANSWER


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "secret"}}
EDIT = {"type": "clear_tool_uses_20250919", "trigger": {"type": "input_tokens", "value": 1}}


def says(role: str, *blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": [*blocks]}, USER]}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"max_tokens": 0}, "max_tokens", "must be greater than or equal to 1"),
        ({"messages": []}, "messages", "must have at least 1 items"),
        ({"messages": ["secret"]}, "messages[0]", "must be an object"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "must be 'user'"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "must be a string or a list"),
        (says("user", "secret"), "messages[0].content[0]", "must be an object"),
        (says("user", {"type": "text"}), "messages[0].content[0].text", "must be a string"),
        (says("user", IMAGE), "messages[0].content[0].type", "Here it may be text or tool_result"),
        (says("user", {"type": "document", "source": {}}), "messages[0].content[0].type", "is not supported"),
        (says("user", USE), "messages[0].content[0].type", "is not supported"),
        (says("assistant", RESULT), "messages[0].content[0].type", "is not supported"),
        (says("user", RESULT), "messages[0].content[0].tool_use_id", "is not the id of a call"),
        (says("assistant", USE | {"id": ""}), "messages[0].content[0].id", "must not be empty"),
        (says("assistant", USE | {"input": "secret"}), "messages[0].content[0].input", "must be an object"),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": [USE]},
                    says("user", RESULT | {"content": [IMAGE]})["messages"][0],
                ]
            },
            "messages[2].content[0].content[0].type",
            "Here it may be text.",
        ),
        ({"messages": [USER, {"role": "assistant", "content": "The best"}]}, "messages[1]", "message prefill"),
        ({"system": [IMAGE]}, "system[0].type", "is not supported"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0]", "must have the type custom"),
        ({"tools": [{"name": "a"}]}, "tools[0].input_schema", "is required"),
        ({"tools": [WEATHER, WEATHER]}, "tools", "must be different"),
        ({"tools": [WEATHER | {"input_examples": [{"town": "secret"}]}]}, "tools[0].input_examples", "not supported"),
        ({"tools": [WEATHER | {"defer_loading": True}]}, "tools[0].defer_loading", "must be false"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "requires a call"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice", "must be"),
        ({"tool_choice": {"type": "auto", "name": "secret"}}, "tool_choice", "must be"),
        ({"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}, "tool_choice", "must be"),
        ({"context_management": {"edits": [EDIT]}}, "context_management.edits[0].type", "must be"),
        ({"container": "secret"}, "container", "is not supported"),
        ({"mcp_servers": [{"name": "secret"}]}, "mcp_servers", "is not supported"),
        ({"stop_sequences": ["a"] * 17}, "stop_sequences", "up to 16 strings"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "not": {}}}}},
            "output_config.format",
            "cannot be enforced: not",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(
    client: TestClient, fields: dict[str, Any], param: str, said: str
) -> None:
    error, ours = refused(client, fields)
    assert error.error.type == "invalid_request_error"
    assert ours["param"] == param
    assert said in error.error.message


def test_a_prompt_that_is_too_long_is_named_in_anthropics_words(client: TestClient) -> None:
    error, ours = refused(client, {"messages": [{"role": "user", "content": "word " * 40_000}]})
    counts = re.match(r"prompt is too long: (\d+) tokens > (\d+) maximum\. ", error.error.message)
    assert counts
    count, most = map(int, counts.groups())
    assert count > most == SCRIPTED_MODEL.context_tokens - 1
    assert (ours["param"], ours["code"]) == ("messages", "prompt_too_long")


@pytest.mark.local_engine("there is no tokenizer")
def test_tokens_are_counted_as_the_answer_counts_them(client: TestClient) -> None:
    body = {"messages": [USER], "system": "Be brief.", "tools": [WEATHER]}
    counted = client.post(f"{PATH}/count_tokens", json=body)
    assert counted.status_code == 200, counted.text
    assert (
        read_as(MessageTokensCount, counted.json()).input_tokens
        == ask(client, **body, max_tokens=1).usage.input_tokens
    )
    assert refused(client, {"messages": 5}, path=f"{PATH}/count_tokens")[1]["param"] == "messages"


@pytest.mark.parametrize(
    ("method", "path", "fields", "told"),
    [
        ("POST", PATH, {"model": "claude"}, (404, "not_found_error")),
        ("POST", f"{PATH}/batches", {}, (404, "not_found_error")),
        ("GET", PATH, {}, (405, "invalid_request_error")),
        ("POST", PATH, {"system": "a" * 2_100_000}, (413, "request_too_large")),
    ],
)
def test_every_error_of_its_paths_has_anthropics_form(
    client: TestClient, method: str, path: str, fields: dict[str, Any], told: tuple[int, str]
) -> None:
    response = client.request(method, path, json={"messages": [USER]} | fields)
    body = response.json()
    read_error(body)
    assert (response.status_code, body["error"]["type"]) == told
    assert body["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]
