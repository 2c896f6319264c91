"""`/v1/fim/completions`, as editors that speak Mistral's API ask it."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from starlette.testclient import TestClient

from app.contract.requests import Operation
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import ANSWER, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.deepseek import MODEL
from tests.support.official_types import read_as
from tests.support.openai_types import frames, read_error
from tests.support.recorder import Recorder

PATH = "/v1/fim/completions"
GAP = {"model": "deepseek", "prompt": "def f(", "suffix": "return a + b"}


@pytest.fixture(scope="session")
def prompts(deepseek_prompts: Prompts) -> Prompts:
    return deepseek_prompts


@pytest.fixture(scope="session")
def script(prompts: Prompts) -> list[int]:
    return prompts.tokenizer.encode(ANSWER, add_special_tokens=False).ids


@pytest.fixture
def client(make_client: MakeClient, script: list[int]) -> TestClient:
    return make_client(ControlledEngine(script, model=MODEL))


def test_a_gap_is_filled_in_a_chats_form(client: TestClient, recorder: Recorder) -> None:
    sent = {"temperature": 0.2, "top_p": 0.9, "max_tokens": 64, "min_tokens": 1, "stop": "\n\n", "random_seed": 7}
    response = client.post(PATH, json=GAP | sent)
    assert response.status_code == 200, response.text
    completion = read_as(ChatCompletion, response.json())
    (choice,) = completion.choices
    assert (choice.message.content, choice.finish_reason) == (ANSWER, "stop")
    assert completion.usage is not None
    told = recorder.generation()
    assert (told.operation, told.prompt, told.suffix) == (Operation.TEXT_COMPLETION, "def f(", "return a + b")
    assert (told.sampling.seed, told.max_tokens, told.stop) == (7, 64, ("\n\n",))


def test_a_stream(client: TestClient) -> None:
    response = client.post(PATH, json=GAP | {"stream": True, "max_tokens": None, "random_seed": None})
    chunks = [read_as(ChatCompletionChunk, chunk) for chunk in frames(response.text)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == ANSWER


def test_without_a_suffix_the_text_is_continued(client: TestClient, recorder: Recorder) -> None:
    assert client.post(PATH, json={"prompt": "def f("}).status_code == 200
    told = recorder.generation()
    assert (told.prompt, told.suffix, told.max_tokens) == ("def f(", None, None)


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a"]}, "prompt"),
        ({"random_seed": "x"}, "random_seed"),
        ({"logprobs": 1}, "logprobs"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, changes: dict[str, Any], param: str) -> None:
    response = client.post(PATH, json={"prompt": "a"} | changes)
    assert response.status_code == 400
    assert read_error(response.json()).param == param


def test_a_model_without_tokens_for_a_gap_says_so(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, prompts: Prompts
) -> None:
    monkeypatch.setattr(prompts, "_infill", None)
    error = read_error(client.post(PATH, json=GAP).json())
    assert (error.param, error.code) == ("suffix", "unsupported_field")
