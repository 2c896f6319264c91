"""The bodies that other servers get."""

import json
from dataclasses import replace
from typing import Any

import pytest

from app.contract.errors import InvalidRequest, UnsupportedField
from app.contract.requests import (
    GenerationRequest,
    JsonFormat,
    Message,
    Operation,
    SamplingParams,
    Tool,
    ToolCall,
    ToolChoice,
)
from app.remote.body import body_of, path_of, reads_schemas, refuse_unsupported
from app.remote.served import Served

LEFT_OUT = frozenset({"temperature", "top_p", "top_k"})
CHAT = GenerationRequest(
    id="r",
    operation=Operation.CHAT,
    sampling=SamplingParams(seed=7, left_out=LEFT_OUT),
    messages=(Message("user", "hi"),),
)
TEXT = GenerationRequest(
    id="r",
    operation=Operation.TEXT_COMPLETION,
    sampling=SamplingParams(seed=7, left_out=LEFT_OUT),
    prompt="a",
    max_tokens=3,
)
PLAIN = {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "seed": 7}


def written(
    request: GenerationRequest, owner: str = "", *, share_prefixes: bool = True, context: int = 0
) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(body_of(request, Served("m", owner, context), share_prefixes=share_prefixes))
    return body


def test_what_a_client_left_out_is_left_out() -> None:
    assert written(CHAT) == PLAIN | {"messages": [{"role": "user", "content": "hi"}]}
    assert written(TEXT) == PLAIN | {"prompt": "a", "max_tokens": 3}
    assert (path_of(CHAT), path_of(TEXT)) == ("chat/completions", "completions")


def test_what_a_client_gave_is_sent_also_if_it_is_our_default() -> None:
    body = written(replace(CHAT, sampling=SamplingParams(seed=7)))
    assert (body["temperature"], body["top_p"], body["top_k"]) == (1.0, 1.0, 0)
    assert written(replace(CHAT, sampling=SamplingParams(seed=7)), "vllm")["top_k"] == -1


def test_every_field_with_an_effect_is_sent() -> None:
    sampling = SamplingParams(
        seed=7,
        temperature=0.5,
        top_k=5,
        top_p=0.9,
        min_p=0.1,
        repetition_penalty=1.1,
        presence_penalty=0.2,
        frequency_penalty=0.3,
        logit_bias={5: -100.0},
        min_tokens=2,
        top_logprobs=4,
    )
    request = replace(CHAT, sampling=sampling, max_tokens=9, stop=("x",), ignore_eos=True, user="u")
    assert written(request) == PLAIN | {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0.5,
        "top_k": 5,
        "top_p": 0.9,
        "min_p": 0.1,
        "repetition_penalty": 1.1,
        "presence_penalty": 0.2,
        "frequency_penalty": 0.3,
        "logit_bias": {"5": -100.0},
        "min_tokens": 2,
        "logprobs": True,
        "top_logprobs": 4,
        "max_tokens": 9,
        "stop": ["x"],
        "ignore_eos": True,
        "user": "u",
    }
    assert written(replace(TEXT, sampling=sampling))["logprobs"] == 4


def test_a_conversation_with_calls_and_tools() -> None:
    call = ToolCall("call_1", "add", '{"a": 1}')
    turns = (
        Message("user", "hi", name="Ann"),
        Message("assistant", "", (call,)),
        Message("tool", "2", tool_call_id="call_1"),
    )
    tool = Tool("add", "adds", {"type": "object"}, strict=True)
    body = written(replace(CHAT, messages=turns, tools=(tool,), parallel_tool_calls=False))
    function = {"name": "add", "arguments": '{"a": 1}'}
    assert body["messages"] == [
        {"role": "user", "content": "hi", "name": "Ann"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        },
        {"role": "tool", "content": "2", "tool_call_id": "call_1"},
    ]
    described = {"name": "add", "description": "adds", "parameters": {"type": "object"}, "strict": True}
    assert body["tools"] == [{"type": "function", "function": described}]
    assert (body["tool_choice"], body["parallel_tool_calls"]) == ("auto", False)
    named = written(replace(CHAT, tools=(tool,), tool_choice=ToolChoice("required", "add")))
    assert named["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    none = written(replace(CHAT, tools=(tool,), tool_choice=ToolChoice("none")))
    assert "tools" not in none
    assert "tool_choice" not in none


def test_arguments_are_an_object_and_fit_their_schema_where_the_server_lets_others_through() -> None:
    request = replace(CHAT, tools=(Tool("f", "", {}), Tool("g", "", {"type": ["object", "null"]})))
    loose = [tool["function"] for tool in written(request, "local")["tools"]]
    assert loose == [
        {"name": "f", "parameters": {"type": "object"}},
        {"name": "g", "parameters": {"type": "object"}},
    ]
    assert [tool["function"] for tool in written(request, "vllm")["tools"]] == [
        one | {"strict": True} for one in loose
    ]


def test_a_keyword_that_the_server_ignores_is_refused_where_all_of_a_schema_is_demanded() -> None:
    schema = {"type": "object", "properties": {"a": {"not": {"const": "secret"}}}}
    form = replace(CHAT, response_format=JsonFormat(schema))
    strict, loose = (replace(CHAT, tools=(Tool("f", "", schema, strict=strict),)) for strict in (True, False))
    for request, param in ((form, "response_format"), (strict, "tools")):
        with pytest.raises(InvalidRequest, match=r"not is not supported, at properties\.a") as refusal:
            written(request, "vllm")
        assert refusal.value.param == param
        assert reads_schemas(request, Served("m", "vllm"))
        written(request, "local")
    assert written(loose, "vllm")["tools"][0]["function"]["parameters"] == schema
    deep: dict[str, Any] = {}
    for _ in range(2000):
        deep = {"items": deep}
    with pytest.raises(InvalidRequest, match="nested deeper"):
        written(replace(CHAT, response_format=JsonFormat(deep)), "vllm")


def test_an_answer_may_be_longer_than_the_context_which_cuts_it() -> None:
    request = replace(CHAT, max_tokens=5000)
    limits = [written(request, context=context)["max_tokens"] for context in (0, 4096, 8192)]
    assert limits == [5000, 4096, 5000]


def test_forms_of_json() -> None:
    assert written(replace(CHAT, response_format=JsonFormat()))["response_format"] == {"type": "json_object"}
    schema = {"type": "object"}
    form = written(replace(CHAT, response_format=JsonFormat(schema)))["response_format"]
    assert form["type"] == "json_schema"
    assert form["json_schema"]["schema"] == schema


@pytest.mark.parametrize(("owner", "limit"), [("local", -1), ("vllm", None), ("llamacpp", -1), ("me", None)])
def test_a_text_without_a_limit_says_so_as_the_server_reads_it(owner: str, limit: int | None) -> None:
    assert written(replace(TEXT, max_tokens=None), owner)["max_tokens"] == limit
    assert "max_tokens" not in written(CHAT, owner)


def test_tenants_do_not_share_prefixes_unless_they_may() -> None:
    blue, green = replace(CHAT, tenant="blue"), replace(CHAT, tenant="green")
    salts = [written(one, "vllm", share_prefixes=False)["cache_salt"] for one in (blue, green, blue)]
    assert salts[0] == salts[2] != salts[1]
    assert "blue" not in salts[0]
    assert "cache_salt" not in written(blue, "vllm", share_prefixes=True)
    assert "cache_salt" not in written(blue, "local", share_prefixes=False)


def test_a_gap_is_only_asked_of_servers_that_fill_it() -> None:
    request = replace(TEXT, suffix="b")
    assert written(request, "local")["suffix"] == "b"
    with pytest.raises(UnsupportedField, match="suffix"):
        written(request, "llamacpp")


@pytest.mark.parametrize("fields", [{"prompt_logprobs": 1}, {"context": "x"}, {"begun": "x"}])
def test_what_no_server_is_asked_for_is_refused(fields: dict[str, Any]) -> None:
    refuse_unsupported(TEXT)
    with pytest.raises(UnsupportedField, match="remote"):
        refuse_unsupported(replace(TEXT, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"ignore_eos": True, "response_format": JsonFormat()},
        {"sampling": SamplingParams(seed=7, min_tokens=2), "tools": (Tool("f", "", {}),)},
    ],
)
def test_what_would_go_on_after_the_json_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="cannot be combined"):
        refuse_unsupported(replace(CHAT, **fields))


def test_texts_that_are_no_unicode_are_sent() -> None:
    assert "\\ud800" in body_of(replace(TEXT, prompt="\ud800"), Served("m"), share_prefixes=True).decode("ascii")


@pytest.mark.parametrize("owner", ["me", "llamacpp"])
def test_llama_cpps_filters_are_off_where_ours_are_and_have_its_names(owner: str) -> None:
    body = written(CHAT, owner)
    assert (body["min_p"], body["repeat_penalty"]) == (0.0, 1.0)
    assert "repetition_penalty" not in body


@pytest.mark.parametrize(("owner", "field"), [("me", "ignore_eos"), ("llamacpp", "min_tokens")])
def test_what_a_server_would_leave_out_silently_is_refused_by_name(owner: str, field: str) -> None:
    request = replace(CHAT, ignore_eos=True, sampling=SamplingParams(seed=7, min_tokens=2))
    with pytest.raises(UnsupportedField, match=field) as refusal:
        written(request, owner)
    assert refusal.value.param == field
    assert written(request, "vllm")["min_tokens"] == 2


def test_a_call_is_only_required_of_servers_that_keep_to_it() -> None:
    request = replace(CHAT, tools=(Tool("f", "", {"type": "object"}),), tool_choice=ToolChoice("required"))
    assert written(request, "vllm")["tool_choice"] == "required"
    with pytest.raises(UnsupportedField, match="tool_choice"):
        written(request, "me")


def test_a_schema_has_the_form_that_the_server_takes() -> None:
    schema = {"type": "object"}
    form = written(replace(CHAT, response_format=JsonFormat(schema)), "me")["response_format"]
    assert form == {"type": "json_object", "schema": schema}
