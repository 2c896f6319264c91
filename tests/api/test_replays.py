"""What this server wrote can be sent back to it, wherever it was cut."""

import json
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from starlette.testclient import TestClient

from app.serving.prompt.prompts import Prompts
from tests.api import messaging
from tests.api.chatting import PATH, USER, stream
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

ANYTHING = {"type": "function", "function": {"name": "note", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "note", "arguments": %s}\n</tool_call>'
ANSWERS = {
    "words": "Ein Wörtchen 你好 🎉 and more.",
    "a call": "First 你好.\n" + CALL % '{"town": "Pari\\"s", "days": [1, 2]}',
    "a key that is there twice": CALL % '{"a": 1, "a": {"b": []}}',
    "two calls": CALL % "{}" + "\n" + CALL % '{"text": "é\\n"}',
}


def _after(message: dict[str, Any]) -> list[dict[str, Any]]:
    """As an agent goes on: with a result for each call, and the next question."""
    calls = message.get("tool_calls") or []
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "ok"} for call in calls]
    return [USER, message, *results, USER]


def _text(prompts: Prompts, recorder: Recorder) -> str:
    """The prompt that the last request was."""
    return prompts.conversation_tokens(recorder.generation())[0]


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_cut_at_any_token_can_be_sent_back(
    make_client: MakeClient, prompts: Prompts, recorder: Recorder, said: str
) -> None:
    script = prompts.tokenizer.encode(said, add_special_tokens=False).ids
    client = make_client(ControlledEngine(script))
    body = {"messages": [USER], "tools": [ANYTHING]}
    for length in range(1, len(script) + 2):
        choice = client.post(PATH, json=body | {"max_tokens": length}).json()["choices"][0]
        recorder.request()
        again = client.post(PATH, json={"messages": _after(choice["message"]), "max_tokens": 1})
        assert again.status_code == 200, again.text
        prompt = _text(prompts, recorder)
        for call in choice["message"].get("tool_calls", []):
            assert call["function"]["arguments"] in prompt
        if length > len(script):
            assert said in prompt  # so the cached prefix is found


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_a_stream_that_a_client_put_together_can_be_sent_back(
    make_client: MakeClient, prompts: Prompts, said: str
) -> None:
    script = prompts.tokenizer.encode(said, add_special_tokens=False).ids
    client = make_client(ControlledEngine(script))
    state = ChatCompletionStreamState()
    for chunk in stream(client, tools=[ANYTHING], max_tokens=len(script) - 3):
        state.handle_chunk(chunk)
    message = state.current_completion_snapshot.choices[0].message.model_dump(mode="json")
    response = client.post(PATH, json={"messages": _after(message), "max_tokens": 1})
    assert response.status_code == 200, response.text


@given(
    arguments=st.text(max_size=12) | st.from_regex(r'\{("[a-c]": ([0-9]|"\\u[0-9a-f]{4}"|\[|\{), ){0,3}"?\}?'),
    content=st.none() | st.text(max_size=9),
    name=st.text(min_size=1, max_size=9),
)
@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_was_said_in_the_past_is_taken(client: TestClient, arguments: str, content: Any, name: str) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    message = {"role": "assistant", "content": content, "tool_calls": [call]}
    response = client.post(PATH, json={"messages": _after(message), "max_tokens": 1})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("said", ANSWERS.values(), ids=ANSWERS)
def test_a_message_that_is_cut_at_any_token_can_be_sent_back(
    make_client: MakeClient, prompts: Prompts, recorder: Recorder, said: str
) -> None:
    """In Anthropic's form, where a call's arguments are an object, also those of a call that was cut."""
    script = prompts.tokenizer.encode(said, add_special_tokens=False).ids
    client = make_client(ControlledEngine(script))
    tools = [{"name": "note", "input_schema": {"type": "object"}}]
    for length in range(1, len(script) + 2):
        whole = messaging.ask(client, tools=tools, max_tokens=length)
        streamed = _put_together(messaging.stream(client, tools=tools, max_tokens=length))
        assert _without_ids(streamed) == _without_ids(whole)
        for _ in range(2):
            recorder.generation()
        content = [block.to_dict() for block in streamed.content]
        results = [
            {"type": "tool_result", "tool_use_id": block["id"], "content": "ok"}
            for block in content
            if block["type"] == "tool_use"
        ]
        turns = [USER, {"role": "assistant", "content": content}, {"role": "user", "content": results or "Go on."}]
        messaging.ask(client, messages=turns, max_tokens=1)
        prompt = _text(prompts, recorder)
        if length > len(script) and said != ANSWERS["a key that is there twice"]:
            assert said in prompt  # so the cached prefix is found


def _put_together(events: list[Any]) -> Any:
    snapshot, buffers = None, dict[int, bytes]()
    for event in events:
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    return snapshot


def _without_ids(message: Any) -> Any:
    blocks = [{name: value for name, value in block.to_dict().items() if name != "id"} for block in message.content]
    return blocks, message.stop_reason, message.stop_sequence


def test_turns_of_several_speakers_are_taken(client: TestClient) -> None:
    turns = [
        {"role": "user", "name": "Ada", "content": "I live in Bergen."},
        {"role": "assistant", "name": "an agent", "content": "I see.", "refusal": None, "annotations": []},
        {"role": "user", "name": "Bob", "content": "Where does Ada live?"},
    ]
    response = client.post(PATH, json={"messages": turns, "max_tokens": 1})
    assert response.status_code == 200, response.text
    assert json.loads(response.text)["choices"]
