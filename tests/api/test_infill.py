"""`/infill`, as the editors' plug-ins of llama.cpp ask it and read it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from schemathesis import Case
from starlette.testclient import TestClient

from app.api.openapi.document import openapi_document
from app.api.openapi.examples import examples
from app.contract.errors import OutOfMemory
from app.contract.requests import LineLimits, Operation
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import MakeClient
from tests.support.conformance import conforms, settings
from tests.support.controlled import ControlledEngine
from tests.support.deepseek import MODEL
from tests.support.live import LiveServer
from tests.support.openai_types import read_error
from tests.support.recorder import Recorder

GAP = {"input_prefix": "def add(a, b):\n", "input_suffix": "\n\nprint(add(1, 2))\n"}
ANSWER = "    return a + b\n\n    # 和\ndef mul(a, b):\n    return a * b"

LLAMA_VIM: dict[str, Any] = {
    **GAP,
    "id_slot": 0,
    "input_extra": [{"filename": "a.py", "text": "A = 1\n", "time": [1, 2]}, {"text": "B = 2", "str": "x"}],
    "prompt": "    ",
    "n_predict": 128,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.90,
    "samplers": ["top_k", "top_p", "infill"],
    "stream": False,
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 500,
    "response_fields": [
        "content",
        "timings/prompt_n",
        "timings/prompt_ms",
        "timings/prompt_per_token_ms",
        "timings/prompt_per_second",
        "timings/predicted_n",
        "timings/predicted_ms",
        "timings/predicted_per_token_ms",
        "timings/predicted_per_second",
        "truncated",
        "tokens_cached",
    ],
}
LLAMA_VSCODE: dict[str, Any] = {
    **GAP,
    "input_extra": [],
    "prompt": "",
    "n_predict": 100,
    "top_k": 40,
    "top_p": 0.99,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 2500,
}


@pytest.fixture(scope="session")
def prompts(deepseek_prompts: Prompts) -> Prompts:
    return deepseek_prompts


@pytest.fixture(scope="session")
def script(prompts: Prompts) -> list[int]:
    return prompts.tokenizer.encode(ANSWER, add_special_tokens=False).ids


@pytest.fixture
def client(make_client: MakeClient, script: list[int]) -> TestClient:
    return make_client(ControlledEngine(script, model=MODEL))


@pytest.fixture
def address(serve: Callable[..., LiveServer]) -> str:
    return serve(ControlledEngine([100, 101], model=MODEL)).url


def ask(client: TestClient, body: dict[str, Any]) -> dict[str, Any]:
    response = client.post("/infill", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_what_llama_vim_sends_and_reads(client: TestClient, recorder: Recorder) -> None:
    answer = ask(client, LLAMA_VIM)
    assert set(answer) == set(LLAMA_VIM["response_fields"])
    assert answer["content"] == "    return a + b\n\n    # 和\n"  # the next line is not indented
    assert answer["timings/prompt_n"] > 20
    assert answer["timings/predicted_n"] > 5
    assert answer["timings/predicted_per_second"] >= 0
    assert answer["truncated"] is False
    told = recorder.generation()
    assert (told.operation, told.prompt, told.suffix) == (Operation.TEXT_COMPLETION, *GAP.values())
    assert (told.context, told.begun) == ("#a.py\nA = 1\n\nB = 2\n", "    ")
    assert (told.max_tokens, told.lines) == (128, LineLimits(4, 0.5))
    assert (told.sampling.top_k, told.sampling.top_p) == (40, 0.90)


def test_what_llama_vscode_sends_and_reads(client: TestClient, script: list[int]) -> None:
    answer = ask(client, LLAMA_VSCODE)
    assert answer["content"] == ANSWER
    assert (answer["stop"], answer["truncated"], answer["model"]) == (True, False, MODEL.name)
    assert answer["tokens_predicted"] == answer["timings"]["predicted_n"] == len(script) + 1
    assert answer["tokens_evaluated"] == answer["tokens_cached"] + answer["timings"]["prompt_n"]


def test_the_context_is_prepared_without_an_answer(client: TestClient, recorder: Recorder) -> None:
    """Both plug-ins do so while nothing is typed."""
    nothing = {"input_prefix": "", "input_suffix": "", "prompt": ""}
    extra = [{"filename": "a.py", "text": "A = 1\n"}]
    answer = ask(client, {**nothing, "input_extra": extra, "n_predict": 0, "samplers": [], "t_max_predict_ms": 1})
    assert answer["content"] == ""
    assert answer["tokens_evaluated"] > 5
    assert recorder.generation().max_tokens == 0


@pytest.mark.parametrize("body", examples(MODEL.name)["infill"].values())
def test_every_example_is_answered(client: TestClient, body: dict[str, Any]) -> None:
    assert client.post("/infill", json=body).status_code == 200


schema = schemathesis.openapi.from_dict(openapi_document(MODEL.name)).include(path="/infill")


@schema.parametrize()
@settings(examples=30)
def test_every_answer_is_as_the_document_says(case: Case[Any], address: str) -> None:
    """tests/api/test_conformance.py asks a model that cannot fill a gap."""
    conforms(case, address)


def test_samplers_may_be_letters(client: TestClient) -> None:
    assert ask(client, GAP | {"samplers": "edskypmxt"})["content"] == ANSWER


def test_a_stream_is_pieces_and_an_end(client: TestClient, script: list[int]) -> None:
    response = client.post("/infill", json=GAP | {"stream": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, end = [json.loads(event.removeprefix("data: ")) for event in response.text.split("\n\n")[:-1]]
    assert "".join(piece["content"] for piece in pieces) == ANSWER
    assert not any(piece["stop"] for piece in pieces)
    assert (end["stop"], end["content"], end["tokens_predicted"]) == (True, "", len(script) + 1)
    assert "[DONE]" not in response.text


def test_an_error_midway(make_client: MakeClient, script: list[int]) -> None:
    failing = ControlledEngine(script, model=MODEL, fail=(3, OutOfMemory("The answer did not fit in memory.")))
    client = make_client(failing)
    *_, last = client.post("/infill", json=GAP | {"stream": True}).text.split("\n\n")[:-1]
    assert read_error(json.loads(last.removeprefix("data: "))).code == "out_of_memory"
    assert client.post("/infill", json=GAP).status_code == 500


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"input_prefix": None}, "input_prefix"),
        ({"input_suffix": 5}, "input_suffix"),
        ({"input_extra": [{"filename": "a"}]}, "input_extra[0].text"),
        ({"n": 2}, "n"),
        ({"samplers": [0]}, "samplers[0]"),
        ({"samplers": 0}, "samplers"),
        ({"lora": [{"id": 0, "scale": 0.5}]}, "lora"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"repeat_penalty": 1.1}, "repeat_penalty"),
        ({"input_prefix": "word " * 5000}, "input_prefix"),
        ({"model": "secret"}, "model"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, changes: dict[str, Any], param: str) -> None:
    response = client.post("/infill", json=GAP | changes)
    assert response.status_code in (400, 404)
    assert "secret" not in response.text
    error = read_error(response.json())
    assert error.param == param
    assert param.partition("[")[0] in error.message or param in ("model", "input_prefix")


def test_a_model_without_tokens_for_a_gap_says_so(
    make_client: MakeClient, embedded_model: Any, monkeypatch: pytest.MonkeyPatch, prompts: Prompts
) -> None:
    monkeypatch.setattr(prompts, "_infill", None)
    error = read_error(make_client(ControlledEngine(model=MODEL)).post("/infill", json=GAP).json())
    assert (error.param, error.code) == ("input_suffix", "unsupported_field")
    assert error.message.startswith("input_suffix is not supported: the served model cannot fill in the middle")
