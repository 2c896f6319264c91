"""What the fields of a chat request come to."""

from typing import Any

from starlette.testclient import TestClient

from app.contract.requests import Message, Operation, SamplingParams, ToolCall
from app.engine.scripted import SCRIPTED_MODEL
from tests.api.chatting import PATH, USER, ask, refused, stream
from tests.api.conftest import ANSWER, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder


def test_both_names_of_the_limit_must_agree(client: TestClient) -> None:
    assert ask(client, max_tokens=2, max_completion_tokens=2).choices[0].finish_reason == "length"
    error = refused(client, {"messages": [USER], "max_tokens": 2, "max_completion_tokens": 3})
    assert error.param == "max_completion_tokens"


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
    request = recorder.generation()
    assert request.sampling == SamplingParams(**sampling, logit_bias={100: -5.0}, top_logprobs=3)  # type: ignore[arg-type]  # the fields have several types
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
    assert recorder.generation().messages == (
        Message("system", "Be brief."),
        Message("user", "Is it\nraining?"),
        Message("assistant", "", (ToolCall("call_1", "weather", '{"city": "Oslo"}'),)),
        Message("tool", "sun", tool_call_id="call_1", name="weather"),
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


def test_answers_are_text_alone(client: TestClient) -> None:
    error = refused(client, {"messages": [USER], "modalities": ["text", "audio"]})
    assert (error.param, error.message) == ("modalities[1]", "modalities[1] must be 'text'.")


def test_an_answer_can_be_sent_back_as_it_is(client: TestClient, recorder: Recorder) -> None:
    message = client.post(PATH, json={"messages": [USER]}).json()["choices"][0]["message"]
    ask(client, messages=[USER, message, USER])
    recorder.request()
    assert recorder.generation().messages[1] == Message("assistant", ANSWER)


def test_the_model_has_its_own_defaults(make_client: MakeClient, recorder: Recorder) -> None:
    ask(make_client(ControlledEngine()))
    params = recorder.generation().sampling
    defaults = SCRIPTED_MODEL.defaults
    assert defaults is not None
    assert (params.temperature, params.top_p, params.top_k) == (defaults.temperature, defaults.top_p, defaults.top_k)


def test_without_a_limit_the_answer_has_what_fits(client: TestClient, recorder: Recorder) -> None:
    ask(client)
    assert recorder.generation().max_tokens is None
