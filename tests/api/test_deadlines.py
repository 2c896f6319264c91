"""An answer that meets its deadline, by every API: what there is comes out, and says why it ends."""

import json
import re
from typing import Any

import openai
import pytest
from starlette.testclient import TestClient

from app.contract.errors import DeadlineExceeded
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}]},
    "/v1/completions": {"prompt": "a"},
    "/v1/responses": {"input": "a"},
    "/": {"prompt": "a", "history": []},
}
CODE = DeadlineExceeded.code


def script(prompts: Prompts) -> list[int]:
    return prompts.tokenizer.encode("one two three four", add_special_tokens=False).ids


def late(make_client: MakeClient, prompts: Prompts, tokens: int) -> TestClient:
    return make_client(ControlledEngine(script(prompts), fail=(tokens, DeadlineExceeded())))


def assert_cut(path: str, answer: dict[str, Any]) -> None:
    """A whole answer has the first two tokens, and says that the deadline ended it."""
    if path == "/":
        assert (answer["response"], answer["status"]) == ("one two", 200)
        assert answer["history"] == [["a", "one two"]]
        assert answer["error"]["code"] == CODE
    elif path == "/v1/responses":
        assert answer["output"][0]["content"][0]["text"] == "one two"
        assert (answer["status"], answer["error"]["type"]) == ("incomplete", CODE)
    else:
        (choice,) = answer["choices"]
        assert (choice["finish_reason"], choice["error"]["code"]) == ("length", CODE)
        assert (choice.get("text") or choice["message"]["content"]) == "one two"


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer_has_what_there_is(
    make_client: MakeClient, prompts: Prompts, recorder: Recorder, path: str
) -> None:
    client = late(make_client, prompts, 2)
    response = client.post(path, json=BODIES[path])
    assert response.status_code == 200, response.text
    assert_cut(path, response.json())
    told = recorder.request()
    assert (told.status, told.error_code) == (200, CODE)
    assert told.finished is not None
    assert told.finished.usage.completion_tokens == 2


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_ends_with_the_reason(make_client: MakeClient, prompts: Prompts, path: str) -> None:
    client = late(make_client, prompts, 2)
    text = client.post(path, json=BODIES[path] | {"stream": True}).text
    last = json.loads(re.findall(r"^data: ({.*)$", text, re.MULTILINE)[-1])
    if path in ("/", "/v1/responses"):
        assert_cut(path, last["response"] if path == "/v1/responses" else last)
    else:
        (choice,) = last["choices"]
        assert (choice["finish_reason"], choice["error"]["code"]) == ("length", CODE)


@pytest.mark.parametrize("path", BODIES)
def test_without_a_token_it_is_an_error_that_need_not_be_tried_again(
    make_client: MakeClient, prompts: Prompts, path: str
) -> None:
    response = late(make_client, prompts, 0).post(path, json=BODIES[path])
    assert (response.status_code, response.json()["error"]["code"]) == (504, CODE)
    assert response.headers["x-should-retry"] == "false"


def test_openais_client_does_not_try_again(make_client: MakeClient, prompts: Prompts, recorder: Recorder) -> None:
    http = late(make_client, prompts, 0)
    client = openai.OpenAI(api_key="x", base_url="http://testserver/v1", http_client=http, max_retries=2)
    with pytest.raises(openai.InternalServerError) as failure:
        client.completions.create(model="scripted", prompt="a")
    assert failure.value.status_code == 504
    recorder.request()
    assert recorder.requests.empty()


def test_choices_without_a_token_do_not_lose_the_others(make_client: MakeClient, prompts: Prompts) -> None:
    class Uneven(ControlledEngine):
        """The second request gets no token."""

        async def _tokens(self, request: Any) -> Any:
            self._fail = (0 if request.id.endswith("-2") else 2, DeadlineExceeded())
            async for token in super()._tokens(request):
                yield token

    client = make_client(Uneven(script(prompts)))
    choices = client.post("/v1/completions", json={"prompt": "a", "n": 2}).json()["choices"]
    assert [choice["text"] for choice in choices] == ["one two", ""]
    assert {choice["error"]["code"] for choice in choices} == {CODE}
