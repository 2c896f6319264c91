"""LangChain's ChatOpenAI, through nginx, with the real model."""

import pytest
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field, SecretStr

from tests.e2e.conftest import Running


@pytest.fixture
def chat(stack: Running) -> ChatOpenAI:
    return ChatOpenAI(
        base_url=f"{stack.config.address}/v1",
        api_key=SecretStr("none"),
        model="smollm2-135m",
        temperature=0,
        max_completion_tokens=64,
        timeout=120,
        max_retries=0,
    )


def test_a_question_is_answered(chat: ChatOpenAI) -> None:
    answer = chat.invoke("Write a Python function named add that returns the sum of two numbers.")
    assert "return a + b" in answer.text
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] > 0


def test_an_answer_is_streamed(chat: ChatOpenAI) -> None:
    pieces = [piece.text for piece in chat.stream("Count from one to ten.")]
    assert len(pieces) > 5
    assert "".join(pieces) == chat.invoke("Count from one to ten.").text


@tool
def multiply(a: int, b: int) -> int:
    """Multiply two numbers."""
    return a * b


def test_a_tool_is_called(chat: ChatOpenAI) -> None:
    caller = chat.bind_tools([multiply], tool_choice="any", parallel_tool_calls=False)
    answer = caller.invoke("What is 6 times 7?")
    assert isinstance(answer, AIMessage)
    assert answer.invalid_tool_calls == []
    (call,) = answer.tool_calls
    assert call["name"] == "multiply"
    assert isinstance(multiply.invoke(call["args"]), int)


class Person(BaseModel):
    name: str = Field(max_length=30)
    age: int = Field(ge=0, le=150)


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
def test_structured_output_is_an_object(chat: ChatOpenAI, method: str) -> None:
    structured = chat.with_structured_output(Person, method=method)  # type: ignore[arg-type]  # a Literal of its own
    assert isinstance(structured.invoke("Ada is 36 years old."), Person)
