"""`/v1/models`, read with the types of OpenAI's own client."""

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


@pytest.mark.parametrize("name", ["gpt-4", "deepseek-ai/DeepSeek-Coder", "scripted/", "%00", ""])
def test_another_model_is_not_found(client: TestClient, name: str) -> None:
    response = client.get(f"/v1/models/{name}")
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "model_not_found"
    assert "gpt" not in response.text


def test_the_list_is_there_while_the_model_loads(make_client: MakeClient) -> None:
    assert make_client(ControlledEngine(ready=False)).get("/v1/models").status_code == 200
