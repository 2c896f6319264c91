"""`/v1/chat/completions` as OpenAI's clients know it: every shape is read with the types of their own package."""

import json
from typing import Any

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.shared import ErrorObject
from starlette.testclient import TestClient

from app.engine.base import Capacity
from app.engine.scripted import SCRIPTED_MODEL, ScriptedEngine
from app.errors import OutOfMemory
from app.messages import Message, Operation, SamplingParams, ToolCall
from tests.api.conftest import ANSWER, MakeClient
from tests.support.openai_types import frames, read_as, read_error
from tests.support.recorder import Recorder

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


def test_an_answer(client: TestClient, script: list[int]) -> None:
    completion = ask(client)
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == "scripted"
    assert completion.created > 1_700_000_000
    assert completion.system_fingerprint
    (choice,) = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content, choice.message.tool_calls) == ("assistant", ANSWER, None)


def test_usage_is_exact_and_timings_are_there(client: TestClient, script: list[int], recorder: Recorder) -> None:
    completion = ask(client)
    told = recorder.request().finished
    assert told is not None
    assert completion.usage is not None
    assert completion.usage.completion_tokens == len(script) + 1  # and the stop token
    assert completion.usage.prompt_tokens == told.usage.prompt_tokens > 5
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == told.usage.cached_tokens
    timings = (completion.model_extra or {})["timings"]
    assert list(timings) == ["queue_seconds", "prefill_seconds", "decode_seconds", "tokens_per_second"]
    assert timings["decode_seconds"] == round(told.timings.decode, 6)
    assert timings["tokens_per_second"] == pytest.approx(len(script) / told.timings.decode, rel=0.01)


def test_ids_are_unique_also_when_the_request_ids_are_not(client: TestClient) -> None:
    ids = {client.post(PATH, json={"messages": [USER]}, headers={"X-Request-ID": "x"}).json()["id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_stream(client: TestClient) -> None:
    role, *content, last = stream(client)
    assert role.choices[0].delta.role == "assistant"
    assert len(content) > 3
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == ANSWER
    assert all(chunk.choices[0].finish_reason is None for chunk in (role, *content))
    assert last.choices[0].finish_reason == "stop"
    assert not last.choices[0].delta.model_fields_set
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in (role, last)}) == 1
    assert all(chunk.usage is None for chunk in (role, *content, last))


def test_a_stream_tells_its_usage_when_it_is_asked(client: TestClient) -> None:
    whole = ask(client)
    *chunks, last = stream(client, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage == whole.usage
    assert (last.model_extra or {})["timings"]["decode_seconds"] > 0
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)


def test_a_stream_tells_its_usage_so_far_when_it_is_asked(client: TestClient, script: list[int]) -> None:
    chunks = stream(client, stream_options={"include_usage": True, "continuous_usage_stats": True})
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(counts) == len(chunks)
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, len(script) + 1)
    assert len({chunk.usage.prompt_tokens for chunk in chunks if chunk.usage}) == 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_limit_has_two_names(client: TestClient, limit: str) -> None:
    completion = ask(client, **{limit: 2})
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2
    assert stream(client, **{limit: 2})[-1].choices[0].finish_reason == "length"


def test_both_names_of_the_limit_must_agree(client: TestClient) -> None:
    assert ask(client, max_tokens=2, max_completion_tokens=2).choices[0].finish_reason == "length"
    error = refused(client, {"messages": [USER], "max_tokens": 2, "max_completion_tokens": 3})
    assert error.param == "max_completion_tokens"


def test_without_a_limit_the_answer_has_what_fits(client: TestClient, recorder: Recorder) -> None:
    ask(client)
    assert recorder.request().request.max_tokens is None


def test_a_stop_string_ends_the_answer(client: TestClient) -> None:
    completion = ask(client, stop=["nowhere", "return"])
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (" 你好! ", "stop")
    assert ask(client, stop="return").choices[0].message.content == " 你好! "


def test_several_choices(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ScriptedEngine())
    completion = ask(client, n=3, max_tokens=6, seed=5)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in completion.choices]
    assert len(set(texts)) == 3
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 18
    single = ask(client, max_tokens=6, seed=5)
    assert single.choices[0].message.content == texts[0]
    assert single.usage is not None
    assert completion.usage.prompt_tokens == single.usage.prompt_tokens
    chunks = stream(client, n=3, max_tokens=6, seed=5, stream_options={"include_usage": True})
    assert chunks[-1].usage == completion.usage
    streamed = dict.fromkeys(range(3), "")
    for chunk in chunks[:-1]:
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == texts
    assert [len(recorder.request().choices) for _ in range(3)] == [3, 0, 3]
    assert recorder.requests.empty()


def test_streamed_choices_come_side_by_side(make_client: MakeClient) -> None:
    client = make_client(ScriptedEngine())
    order = [chunk.choices[0].index for chunk in stream(client, n=2, max_tokens=20)]
    assert order != sorted(order)
    assert order[0] == 0


def test_logprobs(client: TestClient, script: list[int]) -> None:
    completion = ask(client, logprobs=True, top_logprobs=2)
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == len(script)  # the stop token is no content
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content) == ANSWER.encode()
    assert all(token.logprob == -0.5 for token in logprobs.content)
    assert all([top.logprob for top in token.top_logprobs] == [-0.5, -1.5] for token in logprobs.content)
    assert all(token.top_logprobs[0].bytes == token.bytes for token in logprobs.content)
    streamed = [
        token
        for chunk in stream(client, logprobs=True, top_logprobs=2)
        if (some := chunk.choices[0].logprobs) is not None
        for token in some.content or []
    ]
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in logprobs.content]


def test_logprobs_without_alternatives(client: TestClient) -> None:
    logprobs = ask(client, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    assert all(token.top_logprobs == [] for token in logprobs.content or [])
    assert refused(client, {"messages": [USER], "top_logprobs": 2}).param == "top_logprobs"


def test_what_the_engine_is_asked(client: TestClient, recorder: Recorder) -> None:
    sampling = {
        "temperature": 0.5,
        "top_p": 0.25,
        "top_k": 3,
        "min_p": 0.125,
        "repetition_penalty": 1.5,
        "presence_penalty": -1.0,
        "frequency_penalty": 1.0,
        "min_tokens": 1,
        "seed": 7,
    }
    ask(
        client,
        **sampling,
        max_tokens=9,
        logit_bias={"100": -5},
        stop=["x"],
        ignore_eos=True,
        user="somebody",
        metadata={"project": "a"},
        logprobs=True,
        top_logprobs=3,
    )
    request = recorder.request().request
    assert request.sampling == SamplingParams(**sampling, logit_bias={100: -5.0}, top_logprobs=3)  # type: ignore[arg-type]
    assert (request.max_tokens, request.stop, request.ignore_eos) == (9, ("x",), True)
    assert (request.user, request.metadata) == ("somebody", {"project": "a"})
    assert request.operation is Operation.CHAT


def test_a_conversation_with_tool_calls_in_its_past(client: TestClient, recorder: Recorder) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    turns: list[dict[str, Any]] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is it"}, {"type": "text", "text": "raining?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "audio": None},
        {"role": "tool", "tool_call_id": "call_1", "content": "sun", "name": "weather"},
        {"role": "assistant", "content": "No."},
        {"role": "user", "content": "Thanks"},
    ]
    ask(client, messages=turns)
    assert recorder.request().request.messages == (
        Message("system", "Be brief."),
        Message("user", "Is it\nraining?"),
        Message("assistant", "", (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        Message("tool", "sun", tool_call_id="call_1"),
        Message("assistant", "No."),
        Message("user", "Thanks"),
    )


def test_what_harmless_fields_say_is_heard_and_changes_nothing(client: TestClient) -> None:
    harmless = {
        "model": "scripted",
        "store": False,
        "service_tier": "auto",
        "modalities": ["text"],
        "safety_identifier": "x",
        "prompt_cache_key": "x",
        "parallel_tool_calls": True,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "audio": None,
        "functions": None,
    }
    assert ask(client, **harmless).choices[0].message.content == ANSWER
    assert stream(client, **harmless, stream_options={"include_obfuscation": False})


def test_an_answer_can_be_sent_back_as_it_is(client: TestClient, recorder: Recorder) -> None:
    message = client.post(PATH, json={"messages": [USER]}).json()["choices"][0]["message"]
    ask(client, messages=[USER, message, USER])
    recorder.request()
    assert recorder.request().request.messages[1] == Message("assistant", ANSWER)


def test_an_error_midway(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ScriptedEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory."))))
    error = refused(client, {"messages": [USER]}, 503)
    assert (error.type, error.code) == ("server_error", "out_of_memory")
    response = client.post(PATH, json={"messages": [USER], "stream": True, "stream_options": {"include_usage": True}})
    assert response.status_code == 200
    *chunks, last = frames(response.text)
    assert len([read_as(ChatCompletionChunk, chunk) for chunk in chunks]) == 3
    assert list(last) == ["error"]
    assert read_error(last).code == "out_of_memory"


def test_capacity_hints(client: TestClient) -> None:
    for streamed in (False, True):
        headers = client.post(PATH, json={"messages": [USER], "stream": streamed}).headers
        assert headers["x-ratelimit-limit-requests"] == "132"
        assert headers["x-ratelimit-remaining-requests"] == ("131" if streamed else "132")  # the answer holds a place
        assert int(headers["x-ratelimit-remaining-tokens"]) <= int(headers["x-ratelimit-limit-tokens"]) == 65536


@pytest.mark.parametrize(
    ("path", "body"), [(PATH, {"messages": [USER]}), ("/v1/completions", {"prompt": "a"})], ids=["chat", "text"]
)
def test_each_refusal_is_told_to_the_observers_once(
    make_client: MakeClient, recorder: Recorder, path: str, body: dict[str, Any]
) -> None:
    client = make_client(ScriptedEngine(ready=False))
    assert client.post(path, json=body).status_code == 503
    assert recorder.request().error_code == "model_loading"
    assert recorder.refused == []
    assert client.post(path, json=body | {"n": 0}).status_code == 400
    assert [refusal.error_code for refusal in recorder.refused] == ["invalid_request"]
    assert recorder.requests.empty()


@pytest.mark.parametrize("streamed", [False, True])
def test_refusals_come_before_a_200(make_client: MakeClient, streamed: bool) -> None:
    loading = make_client(ScriptedEngine(ready=False))
    error = refused(loading, {"messages": [USER], "stream": streamed}, 503)
    assert (error.type, error.code) == ("server_error", "model_loading")
    full = make_client(ScriptedEngine(capacity=Capacity(sequences=1, kv_tokens=40)), max_waiting=0)
    long = {"role": "user", "content": "word " * 300}
    error = refused(full, {"messages": [long], "stream": streamed})
    assert (error.type, error.code) == ("invalid_request_error", "context_length_exceeded")
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


def test_only_json_is_taken(client: TestClient) -> None:
    response = client.post(PATH, content=b'{"messages": []}', headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    assert read_error(response.json()).code == "unsupported_media_type"


def test_a_body_that_is_too_large(make_client: MakeClient) -> None:
    client = make_client(ScriptedEngine(), max_body_bytes=1024)
    assert refused(client, {"messages": [{"role": "user", "content": "secret" * 300}]}, 413).code == "body_too_large"


def test_the_wrong_method_is_told_the_right_one(client: TestClient) -> None:
    response = client.get(PATH)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert read_error(response.json()).code == "method_not_allowed"


def test_the_model_has_its_own_defaults(make_client: MakeClient, recorder: Recorder) -> None:
    ask(make_client(ScriptedEngine()))
    params = recorder.request().request.sampling
    defaults = SCRIPTED_MODEL.defaults
    assert (params.temperature, params.top_p, params.top_k) == (defaults.temperature, defaults.top_p, defaults.top_k)


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
