"""A gateway in front of llama.cpp's server: what it computes reaches clients of every API, and leaving ends it."""

import json
import subprocess
import time
from typing import Any

import httpx2
import psutil
import pytest

from tests.remote.conftest import Gateway, until
from tests.support.recorder import Recorder

Server = tuple[subprocess.Popen[bytes], str]

QUESTION = [{"role": "user", "content": "Count from one to five."}]
GREEDY: dict[str, Any] = {"messages": QUESTION, "temperature": 0, "max_tokens": 12}


def deltas(response: httpx2.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line) for line in lines]


def test_an_answer_is_the_servers_whole_and_streamed(
    llamacpp: Server, direct: httpx2.Client, ask: Gateway, recorder: Recorder
) -> None:
    client = ask(llamacpp[1])
    plain = {"min_p": 0, "repeat_penalty": 1.0, "top_k": 0}
    theirs = direct.post("chat/completions", json=GREEDY | plain | {"model": "smollm2"}).json()["choices"][0]
    ours = client.post("v1/chat/completions", json=GREEDY).json()
    assert ours["choices"][0]["message"]["content"] == theirs["message"]["content"]
    assert ours["choices"][0]["finish_reason"] == theirs["finish_reason"] == "length"
    assert ours["usage"]["completion_tokens"] == 12, "counted here: it streams no usage"
    chunks = deltas(client.post("v1/chat/completions", json=GREEDY | {"stream": True}))
    pieces = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks]
    assert "".join(pieces) == theirs["message"]["content"]
    assert sum(map(bool, pieces)) > 5
    assert recorder.request().upstream == llamacpp[1].removeprefix("http://").removesuffix("/v1")
    said = client.post("v1/messages", json={"model": "smollm2", "messages": QUESTION, "max_tokens": 5}).json()
    assert said["content"][0]["text"]


def test_fields_mean_here_what_they_mean_everywhere(llamacpp: Server, ask: Gateway) -> None:
    client = ask(llamacpp[1])

    def answer(**fields: Any) -> dict[str, Any]:
        response = client.post("v1/chat/completions", json=GREEDY | fields)
        assert response.status_code == 200, response.text
        return dict(response.json()["choices"][0])

    seeded = {"temperature": 1.5, "top_p": 1, "top_k": 0, "seed": 11}
    assert answer(**seeded)["message"] == answer(**seeded)["message"]
    plain = answer()["message"]["content"]
    assert answer(repetition_penalty=5)["message"]["content"] != plain
    word = plain.split()[1]
    stopped = answer(stop=[word])
    assert (stopped["finish_reason"], stopped["message"]["content"]) == ("stop", plain.partition(word)[0])
    tokens = answer(logprobs=True, top_logprobs=2)["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == plain
    assert all(token["top_logprobs"] for token in tokens)
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    held = answer(response_format=form, max_tokens=200)["message"]["content"]
    assert isinstance(json.loads(held)["a"], bool)


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"ignore_eos": True}, "unsupported_field", "ignore_eos"),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "required"},
            "unsupported_field",
            "tool_choice",
        ),
    ],
)
def test_what_it_cannot_do_is_refused(
    llamacpp: Server, ask: Gateway, fields: dict[str, Any], code: str, words: str
) -> None:
    client = ask(llamacpp[1])
    for _ in range(4):  # a client's mistakes do not take the server out
        refusal = client.post("v1/chat/completions", json=GREEDY | fields)
        assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, code), refusal.text
        assert words in refusal.json()["error"]["message"]
    assert client.post("v1/chat/completions", json=GREEDY).status_code == 200


def test_a_client_that_leaves_ends_the_computation(llamacpp: Server, ask: Gateway, recorder: Recorder) -> None:
    process, address = llamacpp
    body = {
        "prompt": "One two three four five six",
        "max_tokens": 8000,
        "stream": True,
        "logit_bias": {"2": -100, "0": -100},
    }
    with ask(address).stream("POST", "v1/completions", json=body) as response:
        assert next(line for line in response.iter_lines() if '"text"' in line)
    assert recorder.request().status == 499
    until(lambda: _is_idle(process.pid))  # eight thousand tokens would take longer than this waits


def _is_idle(pid: int) -> bool:
    """Whether it computes less than a tenth of the time."""
    before = psutil.Process(pid).cpu_times().user
    time.sleep(1)
    return psutil.Process(pid).cpu_times().user - before < 0.1


def test_a_server_that_is_killed_midway(llamacpp: Server, ask: Gateway, recorder: Recorder) -> None:
    process, address = llamacpp
    client = ask(address)
    body = GREEDY | {"max_tokens": 4000, "stream": True}
    with client.stream("POST", "v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(line for line in lines if '"content":"' in line and '"content":""' not in line)
        process.kill()
        *_, error, done = [line for line in lines if line]
    assert done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "upstream_failed"
    assert recorder.request().error_code == "upstream_failed"
    until(lambda: client.get("readyz").status_code == 503)


def test_a_prompt_that_is_too_long_takes_no_server_out(llamacpp: Server, ask: Gateway) -> None:
    """It finds that out late, and then sends nothing."""
    client = ask(llamacpp[1])
    for _ in range(4):
        long = client.post("v1/chat/completions", json={"messages": [{"role": "user", "content": "word " * 10_000}]})
        assert (long.status_code, long.json()["error"]["code"]) == (500, "upstream_failed")
    assert client.post("v1/chat/completions", json=GREEDY).status_code == 200
