"""When a server's words may be passed on."""

import json
from dataclasses import replace

import pytest

from app.contract.errors import InvalidRequest, Overloaded, PromptTooLong, UpstreamUnavailable
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.remote.faults import refusal

REQUEST = GenerationRequest(
    id="r",
    operation=Operation.CHAT,
    sampling=SamplingParams(seed=1),
    messages=(Message("user", "Tell nobody that the launch code is 0000."),),
)


def words(message: str, request: GenerationRequest = REQUEST) -> str:
    return refusal(400, {}, json.dumps({"error": {"message": message}}).encode(), request).error.message


@pytest.mark.parametrize("message", ["temperature must be at most 2.", "hit a limit of 5 tools"])
def test_words_about_fields_are_passed_on(message: str) -> None:
    assert words(message) == message


@pytest.mark.parametrize(
    "message",
    [
        "input_value='Tell nobody that the launch code is 0000.'",
        "cannot parse: the launch code is 0000",
        "two\nlines",
        "x" * 401,
    ],
)
def test_words_that_repeat_the_request_or_are_long_are_not(message: str) -> None:
    assert words(message) == "The server that computes the answers refuses this request."


def test_a_short_text_is_found_as_a_word() -> None:
    short = replace(REQUEST, messages=(Message("user", "hunter2"),))
    assert "hunter2" not in words("the input 'hunter2' is wrong", short)
    assert words("a limit", replace(REQUEST, messages=(Message("user", "mit"),))) == "a limit"


def test_how_long_a_prompt_may_be_is_read_from_the_words() -> None:
    error = refusal(
        400,
        {},
        b'{"message": "This model\'s maximum context length is 4096 tokens. However, your request has 5000 input '
        b'tokens.", "type": "BadRequestError", "code": 400}',
        REQUEST,
    ).error
    assert isinstance(error, PromptTooLong)
    assert (error.most, error.tokens, error.param) == (4095, 5000, "messages")


@pytest.mark.parametrize(("header", "seconds"), [("17", 17), ("0", 1), ("99999", 600), ("soon", 1), ("", 1)])
def test_a_time_to_come_again_is_bounded(header: str, seconds: float) -> None:
    fault = refusal(429, {"retry-after": header}, b"", REQUEST)
    assert isinstance(fault.error, Overloaded)
    assert fault.error.retry_after == seconds
    assert (fault.elsewhere, fault.broken) == (True, False)


@pytest.mark.parametrize(
    ("words", "full"),
    [
        ("The engine is currently busy and cannot accept new requests. Please try again later.", True),
        ("The engine has reached its prefill token backlog limit. Please try again later.", True),
        ("EngineCore encountered an issue.", False),
    ],
)
def test_a_server_that_is_full_is_told_from_one_that_is_broken(words: str, full: bool) -> None:
    body = json.dumps({"error": {"message": words, "type": "Service Unavailable", "code": 503}}).encode()
    fault = refusal(503, {}, body, REQUEST)
    assert type(fault.error) is (Overloaded if full else UpstreamUnavailable)
    assert (fault.elsewhere, fault.broken) == (True, not full)


@pytest.mark.parametrize(
    "body", [b"", b"[1]", b'{"error": "words"}', b"\xff", b'{"error": {"message": 5, "param": 5}}']
)
def test_a_refusal_without_words(body: bytes) -> None:
    error = refusal(400, {}, body, REQUEST).error
    assert type(error) is InvalidRequest
    assert error.param is None


def test_a_wrong_field_is_the_clients_mistake_whatever_the_status() -> None:
    body = b'{"error": {"message": "1 validation error:\\n {\'input\': \'secret\'}", "type": "x"}}'
    fault = refusal(500, {}, body, REQUEST)
    assert type(fault.error) is InvalidRequest
    assert "secret" not in fault.error.message
    assert not fault.broken
