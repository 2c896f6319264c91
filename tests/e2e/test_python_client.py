"""The official `openai` client for Python, through nginx, with the real model."""

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from stack.smoke import await_true, find_line
from tests.e2e.conftest import Running

MODEL = "smollm2-135m"
ADD = "Write a Python function named add that returns the sum of two numbers."
PATIENCE = 120


@pytest.fixture
def client(stack: Running) -> Iterator[OpenAI]:
    base = f"{stack.config.address}/v1"
    with OpenAI(base_url=base, api_key="none", max_retries=0, timeout=PATIENCE) as made:
        yield made


def asked(content: str) -> Any:
    return [{"role": "user", "content": content}]


def test_a_conversation_is_answered(client: OpenAI, stack: Running) -> None:
    completion = client.chat.completions.create(model=MODEL, messages=asked(ADD), temperature=0, max_tokens=64)
    (choice,) = completion.choices
    assert "return a + b" in (choice.message.content or "")
    assert choice.finish_reason in ("stop", "length")
    assert completion.usage is not None
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    request_id = completion._request_id
    line = await_true(lambda: find_line(stack.stack, "app", "request", request_id), "the app's log line")
    assert line["response"] == choice.message.content
    assert line["completion_tokens"] == completion.usage.completion_tokens


def test_a_stream_has_the_same_answer_piece_by_piece(client: OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "messages": asked(ADD), "temperature": 0, "max_tokens": 32}
    whole = client.chat.completions.create(**fields)
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **fields))
    pieces = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert len(pieces) > 5
    assert "".join(piece or "" for piece in pieces) == whole.choices[0].message.content
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_choices_differ(client: OpenAI) -> None:
    completion = client.chat.completions.create(
        model=MODEL, messages=asked("Name a fruit."), n=3, seed=7, temperature=1.5, max_tokens=8
    )
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert len({choice.message.content for choice in completion.choices}) > 1


class Book(BaseModel):
    title: str = Field(max_length=40)
    year: int = Field(ge=1400, le=2100)
    kind: Literal["novel", "poem", "play"]


@pytest.mark.parametrize("temperature", [0, 2])
def test_structured_output_is_parsed(client: OpenAI, temperature: float) -> None:
    completion = client.chat.completions.parse(
        model=MODEL,
        messages=asked("Describe Hamlet as JSON."),
        response_format=Book,
        temperature=temperature,
        max_tokens=400,
        seed=1,
    )
    assert completion.choices[0].finish_reason == "stop"
    assert isinstance(completion.choices[0].message.parsed, Book)


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "maxLength": 30}, "unit": {"enum": ["C", "F"]}},
            "required": ["town", "unit"],
            "additionalProperties": False,
        },
    },
}


def test_a_tool_is_called_and_its_result_is_read(client: OpenAI) -> None:
    messages = asked("What is the weather in Paris?")
    fields: dict[str, Any] = {"model": MODEL, "tools": [WEATHER], "temperature": 0, "max_tokens": 64}
    fields["parallel_tool_calls"] = False  # a small model would not stop calling
    first = client.chat.completions.create(messages=messages, tool_choice="required", **fields).choices[0]
    assert first.finish_reason == "tool_calls"
    calls: Any = first.message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather"]
    assert set(json.loads(calls[0].function.arguments)) == {"town", "unit"}
    results = [{"role": "tool", "tool_call_id": call.id, "content": "18 degrees, sunny"} for call in calls]
    messages += [first.message.model_dump(exclude_none=True), *results]
    last = client.chat.completions.create(messages=messages, tool_choice="none", **fields).choices[0]
    assert last.message.content
    assert last.message.tool_calls is None


def test_a_streamed_tool_call_is_put_together(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL,
        messages=asked("What is the weather in Paris?"),
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        temperature=0,
        max_tokens=64,
    ) as events:
        kinds = [event.type for event in events]
        choice = events.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in kinds
    assert choice.finish_reason == "tool_calls"
    assert choice.message.tool_calls
    assert set(json.loads(choice.message.tool_calls[0].function.arguments)) == {"town", "unit"}


def test_a_text_goes_on(client: OpenAI) -> None:
    completion = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", max_tokens=8, temperature=0, logprobs=2)
    (choice,) = completion.choices
    assert " 5" in choice.text
    assert choice.logprobs is not None
    assert "".join(choice.logprobs.tokens or []) == choice.text
    streamed = client.completions.create(model=MODEL, prompt="1, 2, 3, 4,", max_tokens=8, temperature=0, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == choice.text


def test_models_are_listed_and_found(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).id == MODEL


def test_errors_are_the_clients_own_and_carry_the_request_id(client: OpenAI, stack: Running) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model=MODEL, messages=asked("hi"), top_logprobs=99, logprobs=True)
    assert bad.value.param == "top_logprobs"
    assert bad.value.request_id
    line = await_true(lambda: find_line(stack.stack, "nginx", "access", bad.value.request_id), "nginx's log line")
    assert line["status"] == 400
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("gpt-4")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError) as nowhere:  # nginx's own
        client.embeddings.create(model=MODEL, input="a")
    assert (nowhere.value.code, nowhere.value.type) == ("not_found", "invalid_request_error")
    assert nowhere.value.request_id
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model=MODEL, prompt="word " * 10_000)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="fill in the middle") as hole:
        client.completions.create(model=MODEL, prompt="a", suffix="b")
    assert hole.value.param == "suffix"
    with pytest.raises(openai.APIStatusError) as large:  # nginx's own
        client.completions.create(model=MODEL, prompt="x" * stack.config.max_body_bytes)
    assert (large.value.status_code, large.value.code) == (413, "body_too_large")


def test_a_client_that_leaves_frees_the_engine(client: OpenAI, stack: Running) -> None:
    """The answer would go on for thousands of tokens."""
    chunks = client.chat.completions.create(
        model=MODEL, messages=asked("Count for ever."), stream=True, max_tokens=4000, extra_body={"ignore_eos": True}
    )
    next(iter(chunks))
    request_id = chunks.response.headers["x-request-id"]
    chunks.close()
    line = await_true(lambda: find_line(stack.stack, "app", "request", request_id), "the app's log line")
    assert line["finish_reason"] == "cancelled"
    assert line["error_code"] == "client_closed"
    assert line["completion_tokens"] < 1000
