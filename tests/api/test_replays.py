"""What this server wrote can be sent back to it, wherever it was cut."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openai.lib.streaming.chat import ChatCompletionStreamState
from starlette.testclient import TestClient

from app.serving.prompt.prompts import Prompts
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


def test_turns_of_several_speakers_are_taken(client: TestClient) -> None:
    turns = [
        {"role": "user", "name": "Ada", "content": "I live in Bergen."},
        {"role": "assistant", "name": "an agent", "content": "I see.", "refusal": None, "annotations": []},
        {"role": "user", "name": "Bob", "content": "Where does Ada live?"},
    ]
    response = client.post(PATH, json={"messages": turns, "max_tokens": 1})
    assert response.status_code == 200, response.text
    assert json.loads(response.text)["choices"]
