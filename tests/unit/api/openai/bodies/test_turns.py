"""Turns of other APIs become those of a chat, and refusals name the client's own places."""

import pytest

from app.api.openai.bodies.turns import Turns, in_words_of_client
from app.contract.errors import InvalidRequest, PromptTooLong
from app.contract.requests import Message, ToolCall

NAMES = {"messages": "input", "messages[1]": "input[7]", "max_tokens": "max_output_tokens"}


def turns() -> Turns:
    return Turns(id_of_call="call_id", id_of_result="result_id")


def test_calls_belong_to_the_assistants_turn_before_them() -> None:
    made = turns()
    made.say("assistant", "Let me look.", "input[0]")
    made.call("a", "look", "{}", "input[1]")
    made.call("b", "look", "{}", "input[2]")
    made.result("a", "x", "input[3]")
    made.call("c", "look", "{}", "input[4]")
    assert made.messages() == (
        Message("assistant", "Let me look.", (ToolCall("a", "look", "{}"), ToolCall("b", "look", "{}"))),
        Message("tool", "x", tool_call_id="a"),
        Message("assistant", "", (ToolCall("c", "look", "{}"),)),
    )


@pytest.mark.parametrize(
    ("call", "result", "param"),
    [
        (("", "look", "{}"), "a", "input[1].call_id"),
        (("a", "look", "{}"), "b", "input[2].result_id"),
    ],
)
def test_a_refusal_names_the_place_in_the_clients_body(call: tuple[str, str, str], result: str, param: str) -> None:
    made = turns()
    made.say("user", "hi", "input[0]")
    made.call(*call, "input[1]")
    made.result(result, "x", "input[2]")
    with pytest.raises(InvalidRequest) as error:
        made.messages()
    assert error.value.param == param
    assert error.value.message.startswith(f"{param} ")


@pytest.mark.parametrize(
    ("param", "message", "told"),
    [
        ("messages", "messages must fit.", ("input", "input must fit.")),
        ("messages[1].content", "messages[1].content is empty.", ("input[7].content", "input[7].content is empty.")),
        ("messages[2].content", "messages[2].content is.", ("input[2].content", "input[2].content is.")),
        ("max_tokens_more", "max_tokens_more is wrong.", ("max_tokens_more", "max_tokens_more is wrong.")),
        (None, "Too much.", (None, "Too much.")),
    ],
)
def test_the_longest_name_is_replaced(param: str | None, message: str, told: tuple[str | None, str]) -> None:
    error = in_words_of_client(PromptTooLong(message, param=param, retry_after=2), NAMES)
    assert isinstance(error, PromptTooLong)
    assert (error.param, error.message) == told
    assert error.retry_after == 2
