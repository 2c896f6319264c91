"""A gateway in front of another of these stacks: what its clients get, and what the stack behind it sees."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.contract.events import FinishReason
from app.contract.telemetry import EngineLoad, PhaseChanged, UpstreamChanged
from app.serving.prompt.prompts import Prompts
from tests.remote.conftest import Gateway, Stack, until
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

TURNS = [{"role": "user", "content": "hi"}]
ANSWER = " 你好! return a + b"


@pytest.fixture(scope="module")
def script(prompts: Prompts) -> list[int]:
    return prompts.tokenizer.encode(ANSWER, add_special_tokens=False).ids


def deltas(response: httpx2.Response) -> Iterator[dict[str, Any]]:
    """The choices of a stream's chunks, as they come."""
    for line in response.iter_lines():
        if line.startswith("data: {"):
            yield from json.loads(line.removeprefix("data: "))["choices"]


def test_pieces_are_passed_on_as_they_come(ask: Gateway, stack: Stack, script: list[int]) -> None:
    gate = asyncio.Event()
    server = stack(ControlledEngine(script, gates={4: gate}))
    body = {"messages": TURNS, "stream": True, "max_tokens": 20}
    with ask(f"{server.url}v1").stream("POST", "v1/chat/completions", json=body) as response:
        text = ""
        for choice in deltas(response):
            text += choice["delta"].get("content", "")
            if text and not gate.is_set():  # the tokens after the fourth are held back
                assert text in {" ", " 你"}
                server.call(gate.set)
    assert text == ANSWER


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_ends_the_request_behind(
    ask: Gateway, stack: Stack, recorder: Recorder, behind: Recorder, *, stream: bool
) -> None:
    engine = ControlledEngine(gates={4: asyncio.Event()})
    client = ask(f"{stack(engine).url}v1")
    body = {"messages": TURNS, "stream": stream}
    if stream:
        with client.stream("POST", "v1/chat/completions", json=body) as response:
            next(deltas(response))
    else:
        with pytest.raises(httpx2.ReadTimeout):
            client.post("v1/chat/completions", json=body, timeout=0.5)
    told = behind.request()
    assert (told.status, told.error_code) == (499, "client_closed")
    assert len(engine.cancelled) == 1
    assert recorder.request().status == 499


def test_the_time_behind_is_a_stage_and_the_line_says_where(
    ask: Gateway, stack: Stack, recorder: Recorder, behind: Recorder, script: list[int]
) -> None:
    server = stack(ControlledEngine(script, cached=3))
    answer = ask(f"{server.url}v1").post("v1/chat/completions", json={"messages": TURNS}).json()
    told, upstream = recorder.request(), behind.request()
    assert told.finished is not None
    assert upstream.finished is not None
    timings = told.finished.timings
    assert timings.upstream > 0
    assert timings.grammar == timings.prefill == 0
    assert timings.total == pytest.approx(told.duration)
    assert answer["timings"]["prefill_seconds"] == pytest.approx(timings.upstream, abs=1e-5)
    assert told.upstream == f"127.0.0.1:{server.port}"
    assert told.finished.usage == upstream.finished.usage
    assert told.finished.usage.cached_tokens == 3
    assert upstream.id == told.id
    assert answer["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("v1/chat/completions", {"messages": TURNS, "logprobs": True, "top_logprobs": 3}),
        ("v1/completions", {"prompt": "a", "logprobs": 2, "max_tokens": 20}),
        ("v1/completions", {"prompt": [[5, 6], [7]], "n": 2, "seed": 3, "max_tokens": 5}),
        ("v1/chat/completions", {"messages": TURNS, "stop": ["return a"]}),
        ("v1/chat/completions", {"messages": TURNS, "max_tokens": 3}),
        ("v1/messages", {"messages": TURNS, "max_tokens": 20, "stop_sequences": ["return"], "model": "scripted"}),
    ],
)
def test_its_answers_are_those_of_the_stack(
    ask: Gateway, stack: Stack, script: list[int], path: str, body: dict[str, Any]
) -> None:
    server = stack(ControlledEngine(script))

    def answer(client: httpx2.Client) -> dict[str, Any]:
        whole = client.post(path, json=body).raise_for_status().json()
        return {name: whole.get(name) for name in ("choices", "content", "usage", "stop_reason", "stop_sequence")}

    with httpx2.Client(base_url=server.url) as direct:
        assert answer(ask(f"{server.url}v1")) == answer(direct)


def test_calls_are_passed_on(ask: Gateway, stack: Stack, recorder: Recorder, prompts: Prompts) -> None:
    written = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    server = stack(ControlledEngine(prompts.tokenizer.encode(written, add_special_tokens=False).ids))
    function = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    body = {"messages": TURNS, "tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    choice = ask(f"{server.url}v1").post("v1/chat/completions", json=body).json()["choices"][0]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("add", {"a": 1})
    assert choice["finish_reason"] == "tool_calls"
    told = recorder.request().finished
    assert told is not None
    assert told.reason is FinishReason.TOOL_CALLS


def test_a_schema_is_enforced_behind_or_refused_by_name(ask: Gateway, stack: Stack, prompts: Prompts) -> None:
    server = stack(ControlledEngine(prompts.tokenizer.encode('{"a": 12} and', add_special_tokens=False).ids))
    client = ask(f"{server.url}v1")

    def answer(schema: dict[str, Any]) -> httpx2.Response:
        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        return client.post("v1/chat/completions", json={"messages": TURNS, "response_format": form})

    fields = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    whole = answer(fields | {"additionalProperties": False}).json()
    assert whole["choices"][0]["message"]["content"] == '{"a": 12}'
    refusal = answer({"not": {}})
    assert refusal.status_code == 400
    assert "not" in refusal.json()["error"]["message"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("v1/completions", {"prompt": "a", "echo": True, "logprobs": 1}, "logprobs"),
        ("v1/completions", {"prompt": [5, 6], "echo": True}, "echo"),
        ("infill", {"input_prefix": "a", "input_suffix": "b", "input_extra": [{"text": "c"}]}, "input_extra"),
    ],
)
def test_what_it_cannot_ask_for_is_refused_by_name(
    ask: Gateway, stack: Stack, behind: Recorder, *, path: str, body: dict[str, Any], field: str
) -> None:
    refusal = ask(f"{stack(ControlledEngine()).url}v1").post(path, json=body)
    error = refusal.json()["error"]
    assert (refusal.status_code, error["code"], error["param"]) == (400, "unsupported_field", field)
    assert behind.requests.empty()


@pytest.mark.parametrize("path", ["tokenize", "detokenize", "v1/chat/completions/render", "v1/messages/count_tokens"])
def test_there_is_no_tokenizer(ask: Gateway, stack: Stack, path: str) -> None:
    bodies: dict[str, dict[str, Any]] = {
        "tokenize": {"prompt": "a"},
        "detokenize": {"tokens": [1]},
        "v1/messages/count_tokens": {"messages": TURNS, "model": "scripted", "max_tokens": 5},
    }
    body = bodies.get(path, {"messages": TURNS})
    assert ask(f"{stack(ControlledEngine()).url}v1").post(path, json=body).status_code == 404


def test_keys_are_this_servers_own(
    ask: Gateway, stack: Stack, recorder: Recorder, behind: Recorder, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.write_text("blue:blue-key-0123456789\n")
    theirs.write_text("gateway:gateway-key-0123456789\n")
    ours.chmod(0o600)
    theirs.chmod(0o600)
    server = stack(ControlledEngine(), api_keys_file=theirs)
    client = ask(f"{server.url}v1", api_keys_file=ours, engine_api_key="gateway-key-0123456789")
    body = {"messages": TURNS, "max_tokens": 2}
    assert client.post("v1/chat/completions", json=body).status_code == 401
    headers = {"authorization": "Bearer blue-key-0123456789"}
    assert client.post("v1/chat/completions", json=body, headers=headers).status_code == 200
    assert recorder.generation().tenant == "blue"
    assert behind.generation().tenant == "gateway"


def test_the_model_is_the_one_behind_by_all_its_names(ask: Gateway, stack: Stack) -> None:
    client = ask(f"{stack(ControlledEngine()).url}v1", served_names="gpt-4o")
    listed = client.get("v1/models").json()["data"]
    assert [(model["id"], model["max_model_len"]) for model in listed] == [("scripted", 2048), ("gpt-4o", 2048)]
    body = {"messages": TURNS, "max_tokens": 2}
    assert client.post("v1/chat/completions", json=body | {"model": "openai/GPT-4o"}).json()["model"] == "scripted"
    assert client.post("v1/chat/completions", json=body | {"model": "other"}).status_code == 404


def test_until_a_server_has_answered_nothing_is_served(ask: Gateway, stack: Stack) -> None:
    client = ask("http://127.0.0.1:1/v1", wait=False)
    for path in ("readyz", "v1/models", "openapi.json"):
        refusal = client.get(path)
        assert refusal.status_code == 503
        assert int(refusal.headers["retry-after"]) >= 1
    assert client.get("livez").status_code == 200
    assert client.post("v1/chat/completions", json={"messages": TURNS}).status_code == 503


def test_a_full_gateway_refuses_before_it_asks(
    ask: Gateway, stack: Stack, recorder: Recorder, script: list[int]
) -> None:
    gate = asyncio.Event()
    server = stack(ControlledEngine(script, gates={1: gate}))
    client = ask(f"{server.url}v1", max_sequences=1, max_waiting=0)
    body = {"messages": TURNS, "stream": True}
    with client.stream("POST", "v1/chat/completions", json=body) as response:
        choices = deltas(response)
        next(choices)
        full = client.post("v1/chat/completions", json=body)
        assert (full.status_code, full.json()["error"]["code"]) == (429, "overloaded")
        assert recorder.request().status == 429
        server.call(gate.set)
        assert list(choices)[-1]["finish_reason"] == "stop"
    loads = [event for event in recorder.others if isinstance(event, EngineLoad)]
    assert (max(load.running for load in loads), max(load.waiting for load in loads)) == (1, 0)


def test_what_is_told_of_servers_and_phases(ask: Gateway, stack: Stack, recorder: Recorder) -> None:
    server = stack(ControlledEngine())
    ask(f"{server.url}v1").post("v1/chat/completions", json={"messages": TURNS, "max_tokens": 2})
    told = [event for event in recorder.others if isinstance(event, UpstreamChanged)]
    assert {event.upstream for event in told} == {f"127.0.0.1:{server.port}"}
    assert told[0].state == "down"
    assert {event.outstanding for event in told} == {0, 1}
    until(lambda: [event for event in recorder.others if isinstance(event, UpstreamChanged)][-1].outstanding == 0)
    assert told[-1].failures == 0
    assert [event.phase for event in recorder.others if isinstance(event, PhaseChanged)] == ["ready"]
