"""The official `openai` client against a real server: what only a connection shows."""

import asyncio
from collections.abc import Callable

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, Field

from app.contract.engine import Capacity
from app.contract.errors import OutOfMemory
from tests.api.conftest import ANSWER, OVER_BOTH
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

Serve = Callable[..., LiveServer]


def client_of(server: LiveServer) -> OpenAI:
    return OpenAI(base_url=f"{server.url}v1", api_key="none", max_retries=0, timeout=30)


def test_an_answer_and_its_request_id(serve: Serve, script: list[int], recorder: Recorder) -> None:
    with client_of(serve(ControlledEngine(script))) as client:
        completion = client.chat.completions.create(model="scripted", messages=[{"role": "user", "content": "你好"}])
        assert completion.choices[0].message.content == ANSWER
        assert completion._request_id == recorder.generation().id
        text = client.completions.create(model="scripted", prompt="def f(", max_tokens=50).choices[0].text
        assert text == ANSWER


def test_an_error_midway_is_raised(serve: Serve, script: list[int]) -> None:
    engine = ControlledEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory.")))
    with client_of(serve(engine)) as client:
        chunks = client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "hi"}], stream=True
        )
        seen = []
        with pytest.raises(openai.APIError, match="did not fit") as error:
            seen += [chunk.choices[0].delta.content for chunk in chunks]
        assert (error.value.code, error.value.type) == ("out_of_memory", "server_error")


@pytest.mark.local_engine("before a server has answered no model is known")
def test_errors_have_the_clients_own_classes(serve: Serve, script: list[int]) -> None:
    server = serve(ControlledEngine(script, ready=False))
    with client_of(server) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.completions.create(model="other", prompt="a")
        assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
        with pytest.raises(openai.BadRequestError) as bad:
            client.completions.create(model="scripted", prompt="a", temperature=3)
        assert bad.value.param == "temperature"
        with pytest.raises(openai.InternalServerError) as loading:
            client.completions.create(model="scripted", prompt="a")
        assert (loading.value.status_code, loading.value.code) == (503, "model_loading")
        assert int(loading.value.response.headers["retry-after"]) >= 1


@pytest.mark.local_engine("tests/remote has it for a gateway's own places")
@pytest.mark.parametrize("n", [1, 3])
def test_a_client_that_leaves_cancels_every_choice(serve: Serve, recorder: Recorder, n: int) -> None:
    gate = asyncio.Event()
    engine = ControlledEngine(gates={3: gate}, capacity=Capacity(sequences=n, kv_tokens=4096))
    server = serve(engine, max_waiting=0)
    with client_of(server) as client:
        chunks = client.completions.create(
            model="scripted", prompt="a", n=n, max_tokens=9, stream=True, stop=["never"], extra_body={"top_k": 5}
        )
        seen = set()
        for chunk in chunks:
            seen.add(chunk.choices[0].index)
            if len(seen) == n:
                break
        with pytest.raises(openai.RateLimitError) as full:
            client.completions.create(model="scripted", prompt="b")
        assert (full.value.code, full.value.type) == ("overloaded", "rate_limit_error")
        assert recorder.request().error_code == "overloaded"
        chunks.close()
        told = recorder.request()
        assert (told.status, told.error_code) == (499, "client_closed")
        assert len(engine.cancelled) == n
        server.call(gate.set)
        again = client.completions.create(model="scripted", prompt="b", n=n, max_tokens=2)
        assert len(again.choices) == n


class Town(BaseModel):
    name: str = Field(max_length=8)


def test_responses_are_streamed_and_parsed(serve: Serve, script: list[int]) -> None:
    with client_of(serve(ControlledEngine(script))) as client:
        with client.responses.stream(model="scripted", input="你好") as stream:
            deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
            assert "".join(deltas) == stream.get_final_response().output_text == ANSWER
        with pytest.raises(openai.BadRequestError) as stored:
            client.responses.create(model="scripted", input="hi", previous_response_id="resp_1")
        assert stored.value.param == "previous_response_id"
    with client_of(serve(ControlledEngine())) as client:
        parsed = client.responses.parse(model="scripted", input="hi", text_format=Town).output_parsed
        assert isinstance(parsed, Town)
