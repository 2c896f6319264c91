"""Chunks of other servers: text, calls, log-probabilities, counts and ends."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.contract.errors import DeadlineExceeded, InvalidRequest, OutOfMemory, ServingError, UpstreamFailed
from app.contract.events import FinishReason, ToolCallEvent, Usage
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.remote.answer_reader import AnswerReader, NewText
from app.remote.faults import Fault
from app.remote.token_numbers import bytes_of

REQUEST = GenerationRequest(
    id="r",
    operation=Operation.CHAT,
    sampling=SamplingParams(seed=1),
    messages=(Message("user", "secret words"),),
)


def push(reader: AnswerReader, *, usage: Any = None, **choice: Any) -> NewText | None:
    chunk = {"id": "x", "choices": [{"index": 0, **choice}] if choice else [], "usage": usage}
    return reader.push(json.dumps(chunk).encode())


def test_a_chat() -> None:
    reader = AnswerReader(REQUEST)
    assert push(reader, delta={"role": "assistant", "content": ""}) is None
    assert push(reader, delta={"content": "Hel"}) == NewText("Hel", (), (), 1)
    assert push(reader, delta={"content": "lo", "reasoning_content": "?"}) == NewText("lo", (), (), 1)
    assert reader.reason is None
    assert push(reader, delta={}, finish_reason="length") is None
    assert reader.reason is FinishReason.LENGTH
    assert reader.usage == Usage(0, 2), "nothing else is told"
    assert push(reader, usage={"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}) is None
    assert reader.usage == Usage(9, 3)


def test_a_text() -> None:
    reader = AnswerReader(REQUEST)
    assert push(reader, text="Hello") == NewText("Hello", (), (), 1)
    push(reader, text="", finish_reason="stop", stop_reason="END")
    assert (reader.reason, reader.stop) == (FinishReason.STOP, "END")


def test_tokens_are_those_that_the_server_counts() -> None:
    reader = AnswerReader(REQUEST)
    counts = []
    for total, text in ((1, ""), (4, "abc"), (4, "d")):
        details = {"cached_tokens": 2}
        usage = {"prompt_tokens": 5, "completion_tokens": total, "prompt_tokens_details": details}
        new = push(reader, usage=usage, delta={"content": text})
        counts.append(new.count if new else None)
    assert counts == [1, 3, 0]
    assert reader.usage == Usage(5, 4, 2)


def test_null_is_a_field_that_is_absent() -> None:
    reader = AnswerReader(REQUEST)
    usage = {"prompt_tokens": None, "completion_tokens": None, "prompt_tokens_details": None}
    assert push(reader, usage=usage, delta={"content": "Hello"}) == NewText("Hello", (), (), 1)
    assert reader.push(b'{"choices": null, "usage": {"prompt_tokens": 3, "completion_tokens": 1}}') is None
    assert reader.usage == Usage(3, 1, 0)


def test_calls_come_in_pieces_and_are_numbered_from_zero() -> None:
    reader = AnswerReader(REQUEST)

    def calls(*pieces: dict[str, Any]) -> tuple[ToolCallEvent, ...]:
        new = push(reader, delta={"tool_calls": list(pieces)})
        assert new is not None
        return new.calls

    first = calls({"index": 1, "id": "call_a", "type": "function", "function": {"name": "f", "arguments": ""}})
    assert first == (ToolCallEvent(0, "", "call_a", "f"),)
    (second,) = calls({"index": 1, "function": {"arguments": "{}"}})
    assert second == ToolCallEvent(0, "{}")
    (third,) = calls({"index": 4, "function": {"name": "g", "arguments": "{}"}})
    assert (third.index, third.name) == (1, "g")
    assert third.id is not None
    with pytest.raises(Fault):
        calls({"index": 7, "function": {"arguments": "{}"}})


def test_log_probabilities_of_a_chat() -> None:
    half = [0xE4, 0xBD]
    top = [{"token": "x", "logprob": -0.5}, {"token": "�", "bytes": half, "logprob": -9999.0}]
    entry = {"token": "�", "bytes": half, "logprob": -0.25, "top_logprobs": top}
    new = push(AnswerReader(REQUEST), delta={"content": ""}, logprobs={"content": [entry], "refusal": None})
    assert new is not None
    (token,) = new.tokens
    assert (bytes_of(token.token), token.logprob, new.count) == (bytes(half), -0.25, 1)
    assert [(bytes_of(other), value) for other, value in token.top_logprobs] == [(b"x", -0.5), (bytes(half), -9999.0)]


def test_log_probabilities_of_a_text() -> None:
    logprobs = {
        "tokens": ["a", "bytes:\\xe4\\xbd", "bytes:of"],
        "token_logprobs": [-1.0, -2.0, None],
        "top_logprobs": [{"b": -3.0, "a": -1.0}, None, {}],
        "text_offset": [0, 1, 1],
    }
    new = push(AnswerReader(REQUEST), text="abytes:of", logprobs=logprobs)
    assert new is not None
    assert [bytes_of(token.token) for token in new.tokens] == [b"a", b"\xe4\xbd", b"bytes:of"]
    assert [token.logprob for token in new.tokens] == [-1.0, -2.0, None]
    assert [bytes_of(other) for other, _ in new.tokens[0].top_logprobs] == [b"a", b"b"]
    with pytest.raises(Fault):
        push(AnswerReader(REQUEST), text="a", logprobs=logprobs | {"token_logprobs": [-1.0]})


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("deadline_exceeded", DeadlineExceeded),
        ("out_of_memory", OutOfMemory),
        ("x", UpstreamFailed),
        (500, UpstreamFailed),
        ([400], UpstreamFailed),
        (400, InvalidRequest),
    ],
)
def test_an_error_within_a_stream(code: Any, error: type[ServingError]) -> None:
    with pytest.raises(Fault) as fault:
        AnswerReader(REQUEST).push(json.dumps({"error": {"message": "secret words", "code": code}}).encode())
    assert type(fault.value.error) is error
    assert fault.value.broken == (error is UpstreamFailed)
    assert "secret" not in fault.value.error.message


def test_what_cut_an_answer_is_known() -> None:
    reader = AnswerReader(REQUEST)
    push(reader, delta={}, finish_reason="length", error={"code": "deadline_exceeded", "message": "late"})
    assert isinstance(reader.cut_by, DeadlineExceeded)


@given(
    st.one_of(
        st.binary(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(
                    st.sampled_from(
                        [
                            "choices",
                            "delta",
                            "content",
                            "tool_calls",
                            "function",
                            "logprobs",
                            "usage",
                            "error",
                            "text",
                        ]
                    ),
                    inner,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_anything_else_is_a_fault_and_no_other_exception(data: bytes) -> None:
    with suppress(Fault):
        AnswerReader(REQUEST).push(data)
