"""One canonical line for each request; what it shows of the conversation is the operator's choice."""

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest

from app.contract.errors import InvalidRequest, UnsupportedField
from app.contract.events import FinishReason
from app.contract.options import LogContent
from app.contract.requests import JsonFormat, Message, Operation, SamplingParams, Tool, ToolCall, ToolChoice
from app.contract.telemetry import Choice, Event, PhaseChanged, RequestEnded
from app.contract.terms import Terms
from app.observability.log.request_log import LogObserver
from app.settings import Settings
from tests.support.events import (
    ANSWERED,
    BAD_BODY,
    CANCELLED,
    CLEANED_UP,
    ENDED,
    REFUSED,
    REQUEST,
    SEVERAL,
    broken,
    one_of_every_kind,
)
from tests.support.line_schema import faults
from tests.unit.observability.conftest import Configure


class Told:
    """Tells a log observer events, and reads the lines that they became."""

    def __init__(self, configure: Configure, **settings: Any) -> None:
        self._lines = configure(**settings)
        self._observer = LogObserver(Settings(**settings, _env_file=None))

    def lines(self, *events: Event) -> list[dict[str, Any]]:
        for event in events:
            self._observer.notify(event)
        return self._lines()

    def line(self, event: Event) -> dict[str, Any]:
        (line,) = self.lines(event)
        return line


def test_the_canonical_line(configure: Configure) -> None:
    line = Told(configure).line(ANSWERED)
    del line["timestamp"]
    assert line == {
        "level": "info",
        "logger": "app.request",
        "event": "request",
        "request_id": "req-1",
        "tenant": "anonymous",
        "operation": "chat",
        "model": "smollm2-135m",
        "stream": False,
        "status": 200,
        "duration_s": 2.25,
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "completion_tokens": 21,
        "cached_tokens": 64,
        "preemptions": 1,
        "first_step": 41,
        "last_step": 63,
        "time_to_first_token_s": 0.25,
        "prepare_s": 0.0625,
        "grammar_s": 0.03125,
        "queue_s": 0.03125,
        "prefill_s": 0.125,
        "decode_s": 2.0,
        "largest_gap_s": 0.5,
        "mean_batch": 3.2,
        "most_tokens": 512,
        "output_tokens_per_second": 9.333333,
        "max_tokens": 1024,
        "seed": 7,
        "temperature": 0.95,
        "top_k": 5,
        "top_p": 0.7,
        "repetition_penalty": 1.1,
        "prompt": "second question",
        "messages": [
            {"role": "system", "content": "You are brief."},
            {"role": "user", "content": "first question"},
            {"role": "assistant", "content": "first answer"},
        ],
        "response": "second answer",
    }


def test_every_request_has_exactly_one_line(configure: Configure) -> None:
    lines = Told(configure).lines(*one_of_every_kind())
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 200, 499, 500, 429, 400]


def test_every_line_is_as_its_schema_says(configure: Configure) -> None:
    asked = replace(
        REQUEST,
        sampling=SamplingParams(seed=1, min_p=0.05, logit_bias={7: -100.0}, top_logprobs=2, presence_penalty=-1.0),
        stop=("END",),
        user="u",
        metadata={"team": "blue"},
        response_format=JsonFormat({}),
    )
    unusual = replace(ANSWERED, request=asked, caller=BAD_BODY.caller, finished=replace(ENDED, stop="END"))
    lines = Told(configure).lines(*one_of_every_kind(), SEVERAL, unusual)
    found = [line for line in lines if line["event"] == "request"]
    assert len(found) == 8
    assert [faults(line) for line in found] == [[]] * 8


def test_unusual_parameters_are_there_to_repeat_the_answer(configure: Configure) -> None:
    sampling = SamplingParams(seed=1, min_p=0.05, logit_bias={7: -100.0})
    request = replace(REQUEST, sampling=sampling, stop=("END",), ignore_eos=True)
    line = Told(configure).line(replace(ANSWERED, request=request))
    assert (line["min_p"], line["logit_bias"]) == (0.05, {"7": -100.0})
    assert (line["stop"], line["ignore_eos"]) == (["END"], True)


def test_several_choices_have_one_line_with_what_tells_them_apart(configure: Configure) -> None:
    line = Told(configure).line(SEVERAL)
    assert line["n"] == 2
    assert line["prompt"] == "second question"
    assert "response" not in line
    assert line["choices"] == [
        {"seed": 7, "finish_reason": "stop", "response": "second answer"},
        {"seed": 8, "finish_reason": "length", "response": "another answer"},
    ]


def test_several_choices_have_the_limit_of_one_and_no_more_content_than_is_wanted(configure: Configure) -> None:
    line = Told(configure, log_content_limit=15).line(SEVERAL)
    assert line["choices"][0]["response"] == "second answer"
    assert line["choices"][1]["response"] == "an… [12 more characters]"
    without = Told(configure, log_content="off").line(SEVERAL)
    assert without["choices"] == [{"seed": 7, "finish_reason": "stop"}, {"seed": 8, "finish_reason": "length"}]


def test_each_of_several_prompts_is_shown_once(configure: Configure) -> None:
    requests = [replace(REQUEST, messages=(), prompt=prompt, n=2) for prompt in ("a", "a", "b", "b")]
    choices = tuple(Choice(request, "x", FinishReason.STOP) for request in requests)
    line = Told(configure).line(replace(ANSWERED, request=requests[0], choices=choices))
    assert line["prompt"] == "a"
    assert [choice.get("prompt") for choice in line["choices"]] == [None, None, "b", "b"]


def test_tools_and_formats_are_named(configure: Configure) -> None:
    call = ToolCall("call_1", "weather", '{"city": "Oslo"}')
    messages = (
        Message("user", "q"),
        Message("assistant", "", (call,)),
        Message("tool", "sun", tool_call_id="call_1"),
    )
    request = replace(
        REQUEST,
        messages=messages,
        tools=(Tool("weather", "", {"secret": "schema"}), Tool("time", "", {})),
        tool_choice=ToolChoice("required", "weather"),
        response_format=JsonFormat({"secret": "schema"}),
    )
    line = Told(configure).line(replace(ANSWERED, request=request))
    assert (line["tools"], line["tool_choice"], line["response_format"]) == (
        ["weather", "time"],
        "weather",
        "json_schema",
    )
    assert line["messages"] == [
        {"role": "assistant", "content": 'weather({"city": "Oslo"})'},
        {"role": "tool", "content": "sun"},
    ]
    assert "schema" not in str({**line, "response_format": ""})


def test_the_clients_own_labels_are_there(configure: Configure) -> None:
    request = replace(REQUEST, user="somebody", metadata={"project": "x"})
    line = Told(configure, log_content="off").line(replace(ANSWERED, request=request))
    assert (line["user"], line["metadata"]) == ("somebody", {"project": "x"})


@pytest.mark.parametrize(("prompt", "shown"), [("def f(", "def f("), ((1, 22, 333), "1 22 333")])
def test_a_raw_prompt_is_shown_as_it_came(configure: Configure, prompt: str | tuple[int, ...], shown: str) -> None:
    request = replace(REQUEST, operation=Operation.TEXT_COMPLETION, messages=(), prompt=prompt)
    line = Told(configure).line(replace(ANSWERED, request=request))
    assert line["prompt"] == shown
    assert "messages" not in line


@pytest.mark.parametrize(
    ("event", "level"),
    [(ANSWERED, "info"), (CANCELLED, "info"), (BAD_BODY, "info"), (REFUSED, "warning"), (broken(), "error")],
    ids=["answered", "cancelled", "bad body", "overloaded", "broken"],
)
def test_the_level_tells_how_bad_it_is(configure: Configure, event: Event, level: str) -> None:
    assert Told(configure).line(event)["level"] == level


def test_a_failure_says_in_the_log_what_the_client_was_not_told(configure: Configure) -> None:
    line = Told(configure).line(broken())
    assert line["error_code"] == "generation_failed"
    assert line["error_message"] == "The answer could not be generated."
    assert "RuntimeError: device-side assert" in line["exception"]


def test_a_refusal_has_no_figures_of_an_answer(configure: Configure) -> None:
    line = Told(configure).line(REFUSED)
    assert (line["error_code"], line["error_reason"]) == ("overloaded", "wait")
    assert line["error_message"] == "The server is full."
    assert line["prepare_s"] == line["duration_s"]
    assert line["prompt"] == "second question"
    assert not {"finish_reason", "prompt_tokens", "queue_s"} & set(line)


def test_a_request_that_was_none_is_logged_with_its_path(configure: Configure) -> None:
    line = Told(configure).line(BAD_BODY)
    assert (line["request_id"], line["path"], line["status"]) == ("req-2", "/", 400)
    assert (line["error_code"], line["error_field"]) == ("invalid_request", "n")
    assert line["tenant"] == "anna"
    assert (line["client"], line["user_agent"]) == ("192.0.2.7", "curl/8.5.0")
    assert "trace_id" not in line


def _contents(line: dict[str, Any]) -> list[str]:
    texts = [line[name] for name in ("prompt", "response", "stop_string")]
    return [*texts, *line["stop"], *(turn["content"] for turn in line["messages"])]


SECRET = "sëcret"
CONFIDENTIAL = replace(
    ANSWERED,
    request=replace(REQUEST, messages=(Message("user", SECRET), Message("user", SECRET)), stop=(SECRET,)),
    response=SECRET,
    finished=replace(ENDED, stop=SECRET),
)


def test_full_content_is_the_default(configure: Configure) -> None:
    assert _contents(Told(configure).line(CONFIDENTIAL)) == [SECRET] * 5


def test_many_secrets_before_the_limit_bring_no_unmasked_text_into_the_line(configure: Configure) -> None:
    key = f"-----BEGIN PRIVATE KEY-----\n{'k' * 3000}\n-----END PRIVATE KEY-----\n"
    event = replace(CONFIDENTIAL, request=replace(REQUEST, messages=(Message("user", key * 12),)))
    line = Told(configure, log_content="masked", log_content_limit=20_000).line(event)
    assert "kkk" not in line["prompt"]
    assert line["prompt"].startswith("[masked]")
    assert line["prompt"].endswith("more characters]")


@pytest.mark.parametrize(("content", "shown"), [("full", True), ("masked", True), ("hash", False), ("off", False)])
def test_a_message_about_a_body_names_what_is_in_it_where_content_is_logged(
    configure: Configure, content: str, shown: bool
) -> None:
    words = "This keyword cannot be enforced, at properties.hunter2."
    error = InvalidRequest(words, param="response_format.json_schema.schema")
    line = Told(configure, log_content=content).line(replace(REFUSED, error=error))
    assert (line["error_message"] == words) is shown
    assert line["error_field"] == ("response_format.json_schema.schema" if shown else "response_format")
    unknown = UnsupportedField("hunter2 is not supported.", param="hunter2")
    line = Told(configure, log_content=content).line(replace(BAD_BODY, error=unknown))
    assert ("hunter2" in str(line)) is shown


def test_masked_content_is_what_was_said_without_its_secrets(configure: Configure) -> None:
    said = [Message(role="user", content="x = 1\npassword = 'hunter2'")]
    event = replace(CONFIDENTIAL, request=replace(REQUEST, messages=tuple(said)))
    line = Told(configure, log_content="masked").line(event)
    assert line["prompt"] == "x = 1\npassword = '[masked]'"


def test_a_secret_at_the_limit_is_masked_whole(configure: Configure) -> None:
    said = [Message(role="user", content=f"{'x' * 15} ghp_{'a' * 36} {'y' * 9000}")]
    event = replace(CONFIDENTIAL, request=replace(REQUEST, messages=tuple(said)))
    line = Told(configure, log_content="masked", log_content_limit=30).line(event)
    assert line["prompt"].startswith("x" * 15 + " [masked] yyyyy…")


def test_redacted_content_is_its_length(configure: Configure) -> None:
    assert _contents(Told(configure, log_content="redacted").line(CONFIDENTIAL)) == ["[6 characters]"] * 5


def test_hashed_content_finds_repetitions(configure: Configure) -> None:
    key = "k" * 16
    digest = hmac.new(key.encode(), SECRET.encode(), hashlib.sha256).hexdigest()[:16]
    lines = Told(configure, log_content="hash", log_hash_key=key).line(CONFIDENTIAL)
    assert _contents(lines) == [f"hmac:{digest} [6 characters]"] * 5


def test_without_a_key_of_the_operators_hashes_differ_from_start_to_start(configure: Configure) -> None:
    """Else a guess could be hashed and compared."""
    first, second = (Told(configure, log_content="hash") for _ in range(2))
    assert len(set(_contents(first.line(CONFIDENTIAL)))) == 1
    assert first.line(CONFIDENTIAL)["prompt"] != second.line(CONFIDENTIAL)["prompt"]


def test_content_that_is_off_leaves_no_trace(configure: Configure) -> None:
    line = Told(configure, log_content="off").line(CONFIDENTIAL)
    assert not {"prompt", "messages", "response", "stop", "stop_string"} & set(line)
    assert SECRET not in str(line)
    assert line["prompt_tokens"] == 100


@pytest.mark.parametrize(
    ("server", "key", "shown"),
    [
        ("full", "off", 0),
        ("full", "redacted", 5),
        ("off", "full", 0),
        ("redacted", "full", 5),
        ("redacted", "hash", 5),
    ],
)
def test_a_key_may_have_less_in_the_log_than_the_server_and_never_more(
    configure: Configure, server: str, key: str, shown: int
) -> None:
    assert CONFIDENTIAL.request is not None
    request = replace(CONFIDENTIAL.request, terms=Terms(log_content=LogContent(key)))
    line = Told(configure, log_content=server).line(replace(CONFIDENTIAL, request=request))
    assert SECRET not in str(line)
    assert (_contents(line) if shown else []) == ["[6 characters]"] * shown
    assert ("prompt" in line) == bool(shown)


def test_so_it_is_with_every_choice(configure: Configure) -> None:
    terms = Terms(log_content=LogContent.OFF)
    choices = tuple(replace(choice, request=replace(choice.request, terms=terms)) for choice in SEVERAL.choices)
    assert SEVERAL.request is not None
    event = replace(SEVERAL, request=replace(SEVERAL.request, terms=terms), choices=choices)
    line = Told(configure).line(event)
    assert len(line["choices"]) > 1
    assert not any({"prompt", "response"} & set(choice) for choice in line["choices"])


def test_long_content_is_cut_and_says_by_how_much(configure: Configure) -> None:
    turns = (Message("user", "a" * 30), Message("assistant", "b" * 30), Message("user", "c" * 50))
    event = replace(ANSWERED, request=replace(REQUEST, messages=turns), response="d" * 41)
    line = Told(configure, log_content_limit=40).line(event)
    assert line["prompt"] == "c" * 40 + "… [10 more characters]"
    assert line["response"] == "d" * 40 + "… [1 more characters]"
    assert [turn["content"] for turn in line["messages"]] == ["a" * 10 + "… [20 more characters]", "b" * 30]


def test_content_longer_than_other_fields_may_be_is_whole_within_its_own_limit(configure: Configure) -> None:
    event = replace(ANSWERED, response="d" * 15_000)
    assert Told(configure).line(event)["response"] == "d" * 15_000


@pytest.mark.parametrize("text", ['x"}\n{"event":"request","status":200}', "half an emoji: \ud83d", "\x00\x1b[2J"])
def test_no_prompt_can_forge_a_line_or_prevent_it(configure: Configure, text: str) -> None:
    event: RequestEnded = replace(
        ANSWERED, request=replace(REQUEST, messages=(Message("user", text),)), response=text
    )
    line = Told(configure).line(event)
    assert line["request_id"] == "req-1"
    assert line["prompt"] == line["response"] == text.encode("utf-8", "backslashreplace").decode()


def test_the_engines_life_is_told(configure: Configure) -> None:
    lines = Told(configure).lines(PhaseChanged("loading", "weights", 0.5), PhaseChanged("failed", "no space", 9.0))
    assert [(line["phase"], line["detail"], line["level"]) for line in lines] == [
        ("loading", "weights", "info"),
        ("failed", "no space", "error"),
    ]


def test_a_cleanup_tells_what_each_device_held_before_and_what_was_freed(configure: Configure) -> None:
    line = Told(configure).line(CLEANED_UP)
    assert [device["device"] for device in line["devices"]] == ["cuda:0", "cuda:1"]
    first = line["devices"][0]
    assert (first["reserved_before"], first["reserved"], first["freed"]) == (18 << 30, 16 << 30, 2 << 30)
    assert first["peak"] == 17 << 30
