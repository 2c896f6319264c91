"""A gateway in front of vLLM: what it computes reaches clients of every API, and leaving ends it."""

import json
import signal
from pathlib import Path
from typing import Any

import httpx2
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.remote.conftest import Gateway, until
from tests.support.driving import reference
from tests.support.recorder import Recorder
from tests.vllm.conftest import CONTEXT, Vllm

CHAT, TEXT = "v1/chat/completions", "v1/completions"
QUESTION = [{"role": "user", "content": "Count from one to five."}]
GREEDY: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 12}
ENDLESS: dict[str, Any] = {"prompt": "One two three", "max_tokens": 1900, "ignore_eos": True, "stream": True}
RUNNING = "vllm:num_requests_running"
TOWN = {
    "type": "object",
    "properties": {"town": {"type": "string", "maxLength": 9}},
    "required": ["town"],
    "additionalProperties": False,
}
NOTHING_FITS = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 5, "maximum": 3}},
    "required": ["a"],
}
IGNORED = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}


def deltas(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def choice_of(client: httpx2.Client, **fields: Any) -> dict[str, Any]:
    response = client.post(CHAT, json=GREEDY | fields)
    assert response.status_code == 200, response.text
    choice: dict[str, Any] = response.json()["choices"][0]
    return choice


def tool(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def form(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def test_an_answer_is_the_servers_and_the_models_own(
    vllm: Vllm, direct: httpx2.Client, ask: Gateway, recorder: Recorder, embedded_model: Path
) -> None:
    client, body = ask(vllm.address), GREEDY | {"max_tokens": 24}
    theirs = direct.post("chat/completions", json=body | {"model": "smollm2"}).json()
    ours = client.post(CHAT, json=body).json()
    text = theirs["choices"][0]["message"]["content"]
    assert ours["choices"][0]["message"]["content"] == text
    assert ours["choices"][0]["finish_reason"] == theirs["choices"][0]["finish_reason"]
    counts = ("prompt_tokens", "completion_tokens", "total_tokens")
    assert [ours["usage"][name] for name in counts] == [theirs["usage"][name] for name in counts]
    chunks = deltas(client.post(CHAT, json=body | {"stream": True, "stream_options": {"include_usage": True}}))
    pieces = [choice["delta"].get("content", "") for chunk in chunks for choice in chunk["choices"]]
    assert "".join(pieces) == text
    assert sum(map(bool, pieces)) > 5
    assert chunks[-1]["usage"]["completion_tokens"] == theirs["usage"]["completion_tokens"]
    assert recorder.request().upstream == vllm.address.removeprefix("http://").removesuffix("/v1")

    tokenizer = AutoTokenizer.from_pretrained(embedded_model)
    model = AutoModelForCausalLM.from_pretrained(embedded_model, dtype=torch.float32)
    prompt: Any = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    answer = reference(model, prompt, 24, eos=tokenizer.eos_token_id)
    assert tokenizer.decode(answer, skip_special_tokens=True) == text


def test_other_apis(vllm: Vllm, ask: Gateway) -> None:
    client = ask(vllm.address)
    plain = choice_of(client)["message"]["content"]
    said = client.post("v1/messages", json={"messages": QUESTION, "max_tokens": 12, "temperature": 0}).json()
    assert said["content"] == [{"type": "text", "text": plain}]
    body = {"input": "Count from one to five.", "max_output_tokens": 16, "temperature": 0}
    responded = client.post("v1/responses", json=body).json()
    assert responded["output"][0]["content"][0]["text"].startswith(plain)
    text = {"prompt": "One two three", "max_tokens": 4, "temperature": 0}
    once, echoed = (client.post(TEXT, json=text | more).json()["choices"][0] for more in ({}, {"echo": True}))
    assert echoed["text"] == "One two three" + once["text"]
    listed = client.post(TEXT, json=text | {"logprobs": 2}).json()["choices"][0]["logprobs"]
    assert "".join(listed["tokens"]) == once["text"]
    assert [len(top) for top in listed["top_logprobs"]] == [2] * 4
    ids = client.post(TEXT, json=text | {"prompt": [[3725, 827], [3725, 827]]}).json()["choices"]
    assert ids[0]["text"] == ids[1]["text"]


def test_fields_mean_here_what_they_mean_everywhere(vllm: Vllm, ask: Gateway) -> None:
    client = ask(vllm.address)
    plain = choice_of(client)["message"]["content"]
    seeded = {"temperature": 1.5, "top_p": 1, "top_k": 0, "seed": 11}
    assert choice_of(client, **seeded)["message"] == choice_of(client, **seeded)["message"]
    assert choice_of(client, repetition_penalty=5.0)["message"]["content"] != plain
    word = plain.split()[1]
    stopped = choice_of(client, stop=[word])
    assert (stopped["finish_reason"], stopped["stop_reason"]) == ("stop", word)
    assert stopped["message"]["content"] == plain.partition(word)[0]
    tokens = choice_of(client, logprobs=True, top_logprobs=2)["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == plain
    assert all(len(token["top_logprobs"]) == 2 for token in tokens)
    several = client.post(CHAT, json=GREEDY | seeded | {"n": 3, "max_tokens": 6}).json()
    assert len({choice["message"]["content"] for choice in several["choices"]}) == 3
    assert several["usage"]["completion_tokens"] == 18
    short = {"stop": None, "max_tokens": 60}
    ended = client.post(CHAT, json=GREEDY | short).json()
    assert ended["choices"][0]["finish_reason"] == "stop"
    longer = ended["usage"]["completion_tokens"] + 5
    for field in ({"min_tokens": longer}, {"ignore_eos": True}):
        assert client.post(CHAT, json=GREEDY | short | field).json()["usage"]["completion_tokens"] >= longer
    beyond = choice_of(client, max_tokens=1_000_000, stop=[word])
    assert beyond["message"] == stopped["message"], "what the context has no room for is cut"


def test_json_and_calls_fit_their_schema(vllm: Vllm, ask: Gateway) -> None:
    client = ask(vllm.address)
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    held = choice_of(client, response_format=form(schema), max_tokens=100)["message"]["content"]
    assert isinstance(json.loads(held)["a"], bool)
    for wanted in ("required", {"type": "function", "function": {"name": "weather"}}):
        choice = choice_of(client, tools=[tool("weather", TOWN)], tool_choice=wanted, max_tokens=100)
        assert choice["finish_reason"] == "tool_calls"
        assert all(
            len(json.loads(call["function"]["arguments"])["town"]) < 10 for call in choice["message"]["tool_calls"]
        )
    free = choice_of(client, tools=[tool("weather", {})], tool_choice="required", max_tokens=60)["message"]
    assert free["tool_calls"][0]["function"]["arguments"].startswith("{"), "arguments are an object"


def test_a_call_that_the_model_decides_on_fits_too(vllm: Vllm, ask: Gateway) -> None:
    """Its own would be of another function, with other arguments: vLLM would let that through."""
    turns = []
    for town in ("Rome", "Oslo", "Bern"):
        call = json.dumps({"name": "get_weather", "arguments": {"city": town}})
        turns += [
            {"role": "user", "content": f"What is the weather in {town}?"},
            {"role": "assistant", "content": f"<tool_call>\n{call}\n</tool_call>"},
        ]
    turns.append({"role": "user", "content": "What is the weather in Paris?"})
    fields = {"messages": turns, "max_tokens": 60, "parallel_tool_calls": False}
    choice = choice_of(ask(vllm.address), tools=[tool("weather", TOWN)], **fields)
    (called,) = choice["message"]["tool_calls"]
    assert (called["function"]["name"], list(json.loads(called["function"]["arguments"]))) == ("weather", ["town"])
    assert choice["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    ("path", "fields", "code", "words"),
    [
        (TEXT, {"prompt": "a", "suffix": "b"}, "unsupported_field", "suffix"),
        (TEXT, {"prompt": "a", "echo": True, "logprobs": 1}, "unsupported_field", "echo"),
        (CHAT, {"messages": [{"role": "user", "content": "word " * 5000}]}, "context_length_exceeded", str(CONTEXT)),
        (CHAT, GREEDY | {"logit_bias": {"99999": 1}}, "invalid_request", "logit_bias"),
        (CHAT, GREEDY | {"response_format": form(IGNORED)}, "invalid_request", "not is not supported"),
        (CHAT, GREEDY | {"response_format": form({}), "ignore_eos": True}, "invalid_request", "ignore_eos"),
        (
            CHAT,
            GREEDY | {"tools": [tool("f", NOTHING_FITS)], "tool_choice": "required"},
            "invalid_request",
            "grammar",
        ),
    ],
)
def test_what_it_cannot_do_is_refused_and_takes_no_server_out(  # noqa: PLR0917  # pytest's parameters
    vllm: Vllm, ask: Gateway, path: str, fields: dict[str, Any], code: str, words: str
) -> None:
    client = ask(vllm.address)
    for _ in range(4):
        refusal = client.post(path, json=fields)
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, code), refusal.text
        assert words in refusal.json()["error"]["message"]
    assert client.post(CHAT, json=GREEDY | {"max_tokens": 1}).status_code == 200


def test_cached_prompts_are_of_one_key(vllm: Vllm, ask: Gateway, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("blue:key-of-blue\nred:key-of-red\n", encoding="utf-8")
    client = ask(vllm.address, api_keys_file=keys)
    cached = []
    for key in ("blue", "blue", "red"):
        body = {"prompt": "word " * 300, "max_tokens": 1}
        told = client.post(TEXT, json=body, headers={"authorization": f"Bearer key-of-{key}"}).json()["usage"]
        cached.append(told["prompt_tokens_details"]["cached_tokens"])
    assert cached[0] == cached[2] == 0 < cached[1]


def test_a_client_that_leaves_ends_the_computation(vllm: Vllm, ask: Gateway, recorder: Recorder) -> None:
    client = ask(vllm.address)
    with client.stream("POST", TEXT, json=ENDLESS) as response:
        assert next(line for line in response.iter_lines() if '"text"' in line)
        assert vllm.metric(RUNNING) == 1
    assert recorder.request().status == 499
    until(lambda: vllm.metric(RUNNING) == 0)
    with pytest.raises(httpx2.ReadTimeout):
        client.post(TEXT, json=ENDLESS | {"stream": False}, timeout=2)
    assert recorder.request().status == 499
    until(lambda: vllm.metric(RUNNING) == 0)
    assert client.post(CHAT, json=GREEDY | {"max_tokens": 1}).status_code == 200


def test_a_server_that_is_full_stalls_and_is_killed(narrow: Vllm, ask: Gateway, recorder: Recorder) -> None:
    client, hasty = ask(narrow.address), ask(narrow.address, request_timeout=10)
    assert client.post(CHAT, json=GREEDY | {"max_tokens": 1}).status_code == 200, "the first one takes longest"
    with hasty.stream("POST", TEXT, json=ENDLESS) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if '"text"' in line)
        for _ in range(4):
            full = hasty.post(TEXT, json=ENDLESS | {"stream": False})
            assert (full.status_code, full.json()["error"]["code"]) == (429, "overloaded")
            assert full.headers["retry-after"] == "1"
        narrow.send(signal.SIGSTOP)
        *_, last, done = [line for line in lines if line]
    assert done == "data: [DONE]"
    choice = json.loads(last.removeprefix("data: "))["choices"][0]
    assert (choice["finish_reason"], choice["error"]["code"]) == ("length", "deadline_exceeded")
    stalled = hasty.post(TEXT, json=ENDLESS | {"stream": False})
    assert (stalled.status_code, stalled.json()["error"]["code"]) == (504, "deadline_exceeded")
    narrow.send(signal.SIGCONT)
    until(lambda: narrow.metric(RUNNING) == 0)

    with client.stream("POST", TEXT, json=ENDLESS) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if '"text"' in line)
        narrow.send(signal.SIGKILL)
        *_, error, done = [line for line in lines if line]
    assert done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "upstream_failed"
    until(lambda: client.get("readyz").status_code == 503)
    gone = client.post(TEXT, json=ENDLESS | {"stream": False})
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "upstream_unavailable")
