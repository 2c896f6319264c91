"""`/v1/models`, read with the types of OpenAI's own client."""

from typing import Any

import pytest
from openai.types import Model
from starlette.testclient import TestClient

from app.contract.engine import Capacity
from app.engine.scripted import SCRIPTED_MODEL
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine


def test_the_list_holds_the_served_model(client: TestClient) -> None:
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    (model,) = [Model.model_validate(each, strict=True) for each in answer["data"]]
    assert (model.id, model.object) == (SCRIPTED_MODEL.name, "model")


def test_a_model_is_found_by_its_name(client: TestClient) -> None:
    one = client.get(f"/v1/models/{SCRIPTED_MODEL.name}").json()
    assert one == client.get("/v1/models").json()["data"][0]


def test_max_model_len_is_what_really_fits(make_client: MakeClient) -> None:
    def room(kv_tokens: int) -> int:
        client = make_client(ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=kv_tokens)))
        value = client.get("/v1/models").json()["data"][0]["max_model_len"]
        assert isinstance(value, int)
        return value

    assert room(100_000) == SCRIPTED_MODEL.context_tokens
    assert room(700) == 700


NAMES = [
    "Scripted",
    "openai/scripted",
    "hosted_vllm/gpt-4o-mini",
    "GPT-4o-mini",
    "deepseek-ai/Coder",
    "x/deepseek-ai/coder",
]
ASKED: dict[str, dict[str, Any]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "responses": {"input": "a"},
}


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_the_model_is_taken_and_the_answer_has_its_own(make_client: MakeClient, name: str) -> None:
    client = make_client(ControlledEngine([5]), served_names="gpt-4o-mini, deepseek-ai/Coder")
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert listed == ["scripted", "gpt-4o-mini", "deepseek-ai/Coder"]
    assert client.get(f"/v1/models/{name}").json()["id"] in listed
    for path, asked in ASKED.items():
        answer = client.post(f"/v1/{path}", json={"model": name, **asked})
        assert answer.status_code == 200, answer.text
        assert answer.json()["model"] == "scripted"
    assert client.post("/tokenize", json={"model": name, "prompt": "a"}).status_code == 200


@pytest.mark.parametrize("name", ["gpt-4", "coder", "xscripted", "scripted/other", "scripted-2"])
def test_other_names_are_other_models(make_client: MakeClient, name: str) -> None:
    client = make_client(ControlledEngine(), served_names="gpt-4o-mini,deepseek-ai/Coder")
    response = client.post("/v1/completions", json={"model": name, "prompt": "a"})
    assert response.status_code == 404
    said = response.json()["error"]["message"]
    assert said.endswith("The served model is scripted or gpt-4o-mini or deepseek-ai/Coder.")


@pytest.mark.parametrize("name", ["gpt-4", "deepseek-ai/DeepSeek-Coder", "scripted/", "%00", ""])
def test_another_model_is_not_found(client: TestClient, name: str) -> None:
    response = client.get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "gpt" not in response.text


def test_the_list_is_there_while_the_model_loads(make_client: MakeClient) -> None:
    assert make_client(ControlledEngine(ready=False)).get("/v1/models").status_code == 200
