"""The official `anthropic` client against a real server: what only a connection shows."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import anthropic
import httpx2
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam

from app.contract.engine import Capacity
from app.contract.errors import OutOfMemory
from tests.api.conftest import ANSWER
from tests.api.messaging import WEATHER
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.recorder import Recorder

Serve = Callable[..., LiveServer]
QUESTION: list[MessageParam] = [{"role": "user", "content": "你好"}]
TOOL: ToolParam = {"name": "weather", "input_schema": WEATHER["input_schema"]}


def client_of(server: LiveServer, key: str = "none") -> Anthropic:
    return Anthropic(base_url=server.url, api_key=key, max_retries=0, timeout=30)


def test_an_answer_and_its_request_id(serve: Serve, script: list[int], recorder: Recorder) -> None:
    with client_of(serve(ControlledEngine(script))) as client:
        message = client.messages.create(model="scripted", max_tokens=64, messages=QUESTION)
        assert [block.text for block in message.content if block.type == "text"] == [ANSWER]
        assert message._request_id == recorder.generation().id
        counted = client.messages.count_tokens(model="scripted", messages=QUESTION)
        assert counted.input_tokens == message.usage.input_tokens


def test_a_stream_is_put_together_and_sent_back(serve: Serve, script: list[int]) -> None:
    with client_of(serve(ControlledEngine(script))) as client:
        with client.messages.stream(model="scripted", max_tokens=64, messages=QUESTION) as stream:
            assert "".join(stream.text_stream) == ANSWER
            message = stream.get_final_message()
        assert message.stop_reason == "end_turn"
        history: list[MessageParam] = [*QUESTION, message.to_param(), *QUESTION]
        assert client.messages.create(model="scripted", max_tokens=64, messages=history).content


def test_a_call_is_streamed_and_its_result_sent(serve: Serve, recorder: Recorder) -> None:
    with client_of(serve(ControlledEngine())) as client:
        with client.messages.stream(
            model="scripted",
            max_tokens=200,
            messages=QUESTION,
            tools=[TOOL],
            tool_choice={"type": "any", "disable_parallel_tool_use": True},
        ) as stream:
            message = stream.get_final_message()
        (call,) = message.content
        assert call.type == "tool_use"
        assert set(call.input) == {"town"}
        recorder.generation()
        result: MessageParam = {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "rain"}],
        }
        client.messages.create(
            model="scripted", max_tokens=8, messages=[*QUESTION, message.to_param(), result], tools=[TOOL]
        )
        roles = [message.role for message in recorder.generation().messages]
        assert roles == ["user", "assistant", "tool"]


def test_an_error_midway_is_raised(serve: Serve, script: list[int]) -> None:
    engine = ControlledEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory.")))
    with (
        client_of(serve(engine)) as client,
        pytest.raises(anthropic.APIStatusError, match="did not fit"),
        client.messages.stream(model="scripted", max_tokens=64, messages=QUESTION) as stream,
    ):
        stream.until_done()


def test_errors_have_the_clients_own_classes(serve: Serve, script: list[int]) -> None:
    def ask(client: Anthropic, model: str = "scripted", temperature: float = 1) -> None:
        more = {"temperature": temperature}  # not among the package's own fields any more
        client.messages.create(model=model, max_tokens=8, messages=QUESTION, extra_body=more)

    with client_of(serve(ControlledEngine(script, ready=False))) as client:
        with pytest.raises(anthropic.NotFoundError) as missing:
            ask(client, model="claude")
        assert missing.value.type == "not_found_error"
        with pytest.raises(anthropic.BadRequestError, match="temperature must be"):
            ask(client, temperature=3)
        with pytest.raises(anthropic.APIStatusError) as loading:
            ask(client)
        assert (loading.value.status_code, loading.value.type) == (503, "overloaded_error")
        assert int(loading.value.response.headers["retry-after"]) >= 1


def test_the_key_is_taken_as_anthropics_clients_send_it(serve: Serve, script: list[int], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:secret-key\n")
    server = serve(ControlledEngine(script), api_keys_file=keys)
    with client_of(server, "secret-key") as client:
        assert client.messages.create(model="scripted", max_tokens=8, messages=QUESTION).content
    with Anthropic(base_url=server.url, api_key=None, auth_token="secret-key", max_retries=0) as client:
        assert client.messages.create(model="scripted", max_tokens=8, messages=QUESTION).content
    with client_of(server, "wrong") as client, pytest.raises(anthropic.AuthenticationError) as unknown:
        client.messages.create(model="scripted", max_tokens=8, messages=QUESTION)
    assert unknown.value.type == "authentication_error"


def test_a_client_that_leaves_ends_its_answer(serve: Serve, recorder: Recorder) -> None:
    gate = asyncio.Event()
    engine = ControlledEngine(gates={3: gate}, capacity=Capacity(sequences=1, kv_tokens=4096))
    server = serve(engine, max_waiting=0)
    with client_of(server) as client:
        stream = client.messages.create(model="scripted", max_tokens=64, messages=QUESTION, stream=True)
        next(event for event in stream if event.type == "content_block_delta")
        with pytest.raises(anthropic.RateLimitError) as full:
            client.messages.create(model="scripted", max_tokens=8, messages=QUESTION)
        assert full.value.type == "rate_limit_error"
        assert recorder.request().error_code == "overloaded"
        stream.close()
        told = recorder.request()
        assert (told.status, told.error_code) == (499, "client_closed")
        assert len(engine.cancelled) == 1


def test_a_silent_stream_has_pings(serve: Serve, script: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.api.http.sse.HEARTBEAT_SECONDS", 0.01)
    gate = asyncio.Event()
    server = serve(ControlledEngine(script, gates={0: gate}))
    body = {"messages": QUESTION, "stream": True}
    with httpx2.stream("POST", f"{server.url}v1/messages", json=body, timeout=30) as response:
        lines = response.iter_lines()
        for line in lines:
            if line == "event: ping":
                break
        assert next(lines) == 'data: {"type":"ping"}'
        server.call(gate.set)
        assert "event: message_stop" in list(lines)
