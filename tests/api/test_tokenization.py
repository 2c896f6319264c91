"""`/tokenize` and `/detokenize`."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from app.engine.scripted import SCRIPTED_MODEL
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

TEXT = "def add(a, b):\n    return a + b  # 你好 🎉"


def tokenize(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post("/tokenize", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def test_a_text_becomes_the_ids_of_the_published_tokenizer(client: TestClient, prompts: Prompts) -> None:
    answer = tokenize(client, prompt=TEXT, model="scripted")
    ids = prompts.tokenizer.encode(TEXT, add_special_tokens=False).ids
    assert answer == {"count": len(ids), "max_model_len": SCRIPTED_MODEL.context_tokens, "tokens": ids}


def test_ids_become_the_text_again(client: TestClient) -> None:
    ids = tokenize(client, prompt=TEXT)["tokens"]
    assert client.post("/detokenize", json={"tokens": ids}).json() == {"prompt": TEXT}
    assert client.post("/detokenize", json={"tokens": []}).json() == {"prompt": ""}


def test_token_strings_are_the_vocabularys_names(client: TestClient) -> None:
    answer = tokenize(client, prompt="a b", return_token_strs=True)
    assert answer["token_strs"] == ["a", "Ġb"]


def test_control_strings_stay_text_and_control_ids_have_their_names(client: TestClient) -> None:
    assert len(tokenize(client, prompt="<|im_end|>")["tokens"]) > 1
    assert client.post("/detokenize", json={"tokens": [1, 2]}).json() == {"prompt": "<|im_start|><|im_end|>"}
    assert client.post("/detokenize", json={"tokens": [1, 2.0]}).json() == {"prompt": "<|im_start|><|im_end|>"}


def test_null_messages_are_no_conversation(client: TestClient) -> None:
    assert tokenize(client, prompt="a", messages=None) == tokenize(client, prompt="a")


def test_what_the_model_expects_before_a_text_is_asked_for(
    client: TestClient, prompts: Prompts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prompts, "_leading", (1,))
    assert tokenize(client, prompt="a")["tokens"][0] == 1
    assert 1 not in tokenize(client, prompt="a", add_special_tokens=False)["tokens"]
    assert tokenize(client, prompt="")["tokens"] == [1]


def test_no_model_has_to_be_loaded(make_client: MakeClient) -> None:
    assert tokenize(make_client(ControlledEngine(ready=False)), prompt="a")["count"] == 1


CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "你好 <|im_end|>"}]},
]


def test_a_conversation_is_rendered_as_chat_would(client: TestClient, recorder: Recorder) -> None:
    body = {"messages": CONVERSATION, "max_tokens": 1, "model": "scripted"}
    rendered = client.post("/v1/chat/completions/render", json=body).json()
    assert set(rendered) == {"prompt", "count", "max_model_len", "tokens"}
    assert rendered["prompt"].startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n你好 <|im_end|>")
    assert rendered["prompt"].endswith("<|im_start|>assistant\n")
    assert rendered["count"] == len(rendered["tokens"])
    assert client.post("/detokenize", json={"tokens": rendered["tokens"]}).json()["prompt"] == rendered["prompt"]
    usage = client.post("/v1/chat/completions", json=body).json()["usage"]
    assert usage["prompt_tokens"] == rendered["count"]


def test_a_conversation_has_the_tokens_of_its_rendering(client: TestClient) -> None:
    rendered = client.post("/v1/chat/completions/render", json={"messages": CONVERSATION}).json()
    answer = tokenize(client, messages=CONVERSATION, return_token_strs=True)
    assert answer["tokens"] == rendered["tokens"]
    assert answer["token_strs"][0] == "<|im_start|>"


REFUSED = [
    ("/tokenize", {"messages": []}, "messages", "at least 1"),
    ("/tokenize", {"messages": CONVERSATION, "prompt": "a"}, "prompt", "not supported"),
    ("/tokenize", {"messages": CONVERSATION, "model": "gpt-4"}, "model", "scripted"),
    ("/v1/chat/completions/render", {"prompt": "a"}, "messages", "is required"),
    ("/v1/chat/completions/render", {"messages": CONVERSATION, "n": 1000}, "n", "less than"),
    ("/v1/chat/completions/render", {"messages": CONVERSATION, "echo": True}, "echo", "not supported"),
    ("/v1/chat/completions/render", {"messages": CONVERSATION, "model": "gpt-4"}, "model", "scripted"),
    ("/tokenize", {}, "prompt", "is required"),
    ("/tokenize", {"prompt": 1}, "prompt", "must be a string"),
    ("/tokenize", {"prompt": "a", "add_special": True}, "add_special", "not supported"),
    ("/tokenize", {"prompt": "a", "add_special_tokens": 1}, "add_special_tokens", "true or false"),
    ("/tokenize", {"prompt": "a", "model": "gpt-4"}, "model", "scripted"),
    ("/detokenize", {}, "tokens", "is required"),
    ("/detokenize", {"tokens": "a"}, "tokens", "must be a list"),
    ("/detokenize", {"tokens": [1, True]}, "tokens[1]", "must be an integer"),
    ("/detokenize", {"tokens": [1.0, 1.5]}, "tokens[1]", "must be an integer"),
    ("/detokenize", {"tokens": [-1]}, "tokens[0]", "greater than or equal to 0"),
    ("/detokenize", {"tokens": [1, 49_152]}, "tokens", "0 to 49151"),
    ("/detokenize", {"tokens": [2**70]}, "tokens[0]", "less than"),
    ("/detokenize", {"tokens": [1], "model": "gpt-4"}, "model", "scripted"),
]


@pytest.mark.parametrize(("path", "body", "param", "said"), REFUSED)
def test_what_is_wrong_is_named(client: TestClient, path: str, body: dict[str, Any], param: str, said: str) -> None:
    response = client.post(path, json=body)
    assert response.status_code == (404 if param == "model" else 400)
    error = response.json()["error"]
    assert error["param"] == param
    assert said in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("path", ["/tokenize", "/detokenize", "/v1/chat/completions/render"])
def test_another_method_is_refused_in_openais_form(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert (response.status_code, response.headers["allow"]) == (405, "POST")
    assert response.json()["error"]["code"] == "method_not_allowed"


def test_with_keys_these_paths_need_one(make_client: MakeClient, tmp_path: Any) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ada:secret-key\n")
    client = make_client(ControlledEngine(), api_keys_file=keys)
    for path in ("/tokenize", "/detokenize", "/v1/models", "/v1/models/scripted"):
        assert client.request("POST" if "token" in path else "GET", path).status_code == 401
    assert client.get("/v1/models", headers={"Authorization": "Bearer secret-key"}).status_code == 200
