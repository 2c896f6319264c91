"""`/v1/completions` as OpenAI's clients know it: every shape is read with the types of their own package."""

import json
from typing import Any

import pytest
from openai.types import Completion
from openai.types.shared import ErrorObject
from starlette.testclient import TestClient

from app.contract.engine import Capacity
from app.contract.errors import DeadlineExceeded, OutOfMemory
from app.contract.requests import Operation
from app.serving.prompt.prompts import Prompts
from tests.api.conftest import ANSWER, OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.official_types import read_as
from tests.support.openai_types import frames, read_error
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH

PATH = "/v1/completions"


def ask(client: TestClient, prompt: Any = "def f(", **fields: Any) -> Completion:
    response = client.post(PATH, json={"prompt": prompt, "max_tokens": 50} | fields)
    assert response.status_code == 200, response.text
    return read_as(Completion, response.json())


def stream(client: TestClient, prompt: Any = "def f(", **fields: Any) -> list[Completion]:
    response = client.post(PATH, json={"prompt": prompt, "max_tokens": 50, "stream": True} | fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return [_chunk(chunk) for chunk in frames(response.text)]


def _chunk(chunk: dict[str, Any]) -> Completion:
    """The package has one type for both, and no chunk without an end in it, although it reads them every day."""
    parsed = Completion.construct(**chunk)
    assert parsed.to_dict(mode="json") == chunk
    ended = [choice | {"finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]]
    read_as(Completion, chunk | {"choices": ended})
    return parsed


def refused(client: TestClient, status: int = 400, **fields: Any) -> ErrorObject:
    response = client.post(PATH, json={"prompt": "secret"} | fields)
    assert response.status_code == status, response.text
    assert "secret" not in response.text
    return read_error(response.json())


def test_an_answer(client: TestClient, script: list[int], recorder: Recorder) -> None:
    completion = ask(client)
    assert completion.id.startswith("cmpl-")
    assert completion.object == "text_completion"
    assert (completion.model, bool(completion.system_fingerprint)) == ("scripted", True)
    (choice,) = completion.choices
    assert (choice.index, choice.text, choice.finish_reason, choice.logprobs) == (0, ANSWER, "stop", None)
    assert completion.usage is not None
    assert completion.usage.completion_tokens == len(script) + 1
    told = recorder.request()
    assert told.request is not None
    assert told.request.operation is Operation.TEXT_COMPLETION
    assert told.finished is not None
    assert completion.usage.prompt_tokens == told.finished.usage.prompt_tokens
    assert "timings" in (completion.model_extra or {})


def test_the_limit_is_16_tokens_unless_it_is_said(make_client: MakeClient) -> None:
    usage = read_as(Completion, make_client(ControlledEngine()).post(PATH, json={"prompt": "a"}).json()).usage
    assert usage is not None
    assert usage.completion_tokens == 16


def test_a_stream(client: TestClient) -> None:
    whole = ask(client)
    *content, last, usage = stream(client, stream_options={"include_usage": True})
    assert "".join(chunk.choices[0].text for chunk in content) == ANSWER
    assert all(chunk.choices[0].finish_reason is None for chunk in content)
    assert (last.choices[0].text, last.choices[0].finish_reason) == ("", "stop")
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert all(chunk.usage is None for chunk in (*content, last))


@pytest.mark.parametrize("tokens", [[100, 101, 102], [[100.0, 101, 102.0]]])
def test_token_ids_are_the_prompt_itself(client: TestClient, recorder: Recorder, tokens: Any) -> None:
    ask(client, tokens)
    told = recorder.request()
    assert told.request is not None
    assert told.request.prompt == (100, 101, 102)
    assert told.finished is not None
    assert told.finished.usage.prompt_tokens == 3


@pytest.mark.parametrize("asked", [["a", "b"], [[100, 101], [102]]])
def test_each_of_several_prompts_has_its_choices(
    make_client: MakeClient, recorder: Recorder, asked: list[Any]
) -> None:
    client = make_client(ControlledEngine())
    completion = ask(client, asked, n=2, seed=3, max_tokens=5)
    assert [choice.index for choice in completion.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in completion.choices]
    assert len(set(texts)) == 4
    alone = [ask(client, prompt, n=2, seed=3, max_tokens=5) for prompt in asked]
    assert [choice.text for one in alone for choice in one.choices] == texts
    usages = [one.usage for one in (completion, *alone) if one.usage]
    assert usages[0].prompt_tokens == usages[1].prompt_tokens + usages[2].prompt_tokens
    assert usages[0].completion_tokens == 20
    streamed = dict.fromkeys(range(4), "")
    for chunk in stream(client, asked, n=2, seed=3, max_tokens=5):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert list(streamed.values()) == texts
    assert len(recorder.request().choices) == 4


@pytest.mark.local_engine("the texts of ids are not known")
@pytest.mark.parametrize(("prompt", "shown"), [("def f(", "def f("), ([100, 101], None)])
def test_echo_puts_the_prompt_first(client: TestClient, prompts: Prompts, prompt: Any, shown: str | None) -> None:
    shown = shown or prompts.tokenizer.decode(prompt)
    completion = ask(client, prompt, echo=True, n=2)
    assert [choice.text for choice in completion.choices] == [shown + ANSWER] * 2
    streamed = ["", ""]
    for chunk in stream(client, prompt, echo=True, n=2):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == [shown + ANSWER] * 2


def test_logprobs(client: TestClient, script: list[int]) -> None:
    logprobs = ask(client, logprobs=2).choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.text_offset is not None
    assert logprobs.top_logprobs is not None
    assert len(logprobs.tokens) == len(logprobs.text_offset) == len(script)
    for token, offset in zip(logprobs.tokens, logprobs.text_offset, strict=True):
        assert ANSWER[offset:].startswith(token) or token.startswith("bytes:\\x")
    assert logprobs.token_logprobs == [-0.5] * len(script)
    assert all(list(top.values()) == [-0.5, -1.5] for top in logprobs.top_logprobs)
    streamed = [some for chunk in stream(client, logprobs=2) if (some := chunk.choices[0].logprobs)]
    for field in ("tokens", "text_offset", "token_logprobs", "top_logprobs"):
        assert [value for some in streamed for value in getattr(some, field)] == getattr(logprobs, field)


def scored(client: TestClient, prompt: Any, **fields: Any) -> Any:
    """Whole, and the same as a stream. The package has no type for the null of a prompt's first token."""
    body = {"prompt": prompt, "echo": True, "logprobs": 2, "max_tokens": 1} | fields
    whole = client.post(PATH, json=body).json()
    joined: dict[int, Any] = {}
    for chunk in frames(client.post(PATH, json=body | {"stream": True}).text):
        (choice,) = chunk["choices"]
        seen = joined.setdefault(choice["index"], {"text": "", "logprobs": {}})
        seen["text"] += choice["text"]
        for name, values in (choice["logprobs"] or {}).items():
            seen["logprobs"].setdefault(name, []).extend(values)
    assert joined == {
        choice["index"]: {"text": choice["text"], "logprobs": choice["logprobs"]} for choice in whole["choices"]
    }
    for choice in whole["choices"]:
        logprobs = choice["logprobs"]
        assert len({len(values) for values in logprobs.values()}) == 1
        assert (logprobs["token_logprobs"][0], logprobs["top_logprobs"][0]) == (None, None)
        for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
            textless = token.startswith("bytes:\\x") or offset == len(choice["text"])
            assert textless or choice["text"][offset:].startswith(token)
    return whole


@pytest.mark.local_engine("a prompt's log-probabilities are refused")
@pytest.mark.parametrize("max_tokens", [0, 1])
def test_a_prompts_log_probabilities(client: TestClient, prompts: Prompts, max_tokens: int) -> None:
    text = "def f(x): 世界"
    ids = prompts.tokenizer.encode(text, add_special_tokens=False).ids
    for prompt in (text, ids):
        whole = scored(client, prompt, max_tokens=max_tokens)
        (choice,) = whole["choices"]
        assert choice["text"] == text + " " * max_tokens
        assert choice["logprobs"]["token_logprobs"] == [None] + [-0.5] * (len(ids) - 1 + max_tokens)
        assert [list(top.values()) for top in choice["logprobs"]["top_logprobs"][1:]] == [[-0.5, -1.5]] * (
            len(ids) - 1 + max_tokens
        )
        assert choice["finish_reason"] == "length"
        assert (whole["usage"]["prompt_tokens"], whole["usage"]["completion_tokens"]) == (len(ids), max_tokens)


@pytest.mark.local_engine("a prompt's log-probabilities are refused")
def test_of_each_prompt_in_a_list(client: TestClient, recorder: Recorder) -> None:
    whole = scored(client, [[100, 101, 102], [103, 104]], n=2)
    assert [len(choice["logprobs"]["tokens"]) for choice in whole["choices"]] == [4, 4, 3, 3]
    assert len(recorder.request().choices) == 4


@pytest.mark.local_engine("a prompt's log-probabilities are refused")
def test_the_log_has_the_answer_without_the_prompt(client: TestClient, recorder: Recorder) -> None:
    scored(client, "def f(", max_tokens=50)
    assert recorder.request().response == ANSWER


@pytest.mark.local_engine("a prompt's log-probabilities are refused")
def test_a_new_token_without_text_has_its_log_probability(make_client: MakeClient) -> None:
    """Evaluations drop the last entry: it must be that of the new token, also if that one ends the answer."""
    client = make_client(ControlledEngine([]))
    (choice,) = scored(client, [100, 101, 102])["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["logprobs"]["tokens"][3:] == ["<|im_end|>"]


def test_no_new_token_without_log_probabilities(client: TestClient) -> None:
    completion = ask(client, "def f(", max_tokens=0)
    assert (completion.choices[0].text, completion.choices[0].finish_reason) == ("", "length")
    assert ask(client, "def f(", max_tokens=0, echo=True).choices[0].text == "def f("


def test_a_prompt_may_fill_the_context_where_no_token_is_wanted(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=100)))
    for prompt, max_tokens, status in (([5] * 100, 0, 200), ([5] * 101, 0, 400), ([5] * 100, 1, 400)):
        response = client.post(PATH, json={"prompt": prompt, "max_tokens": max_tokens})
        assert response.status_code == status


@pytest.mark.local_engine("a prompt's log-probabilities are refused")
def test_a_deadline_before_the_prompt_is_whole_is_an_error(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine(fail=(0, DeadlineExceeded())))
    body = {"prompt": [[5, 6], [7, 8]], "max_tokens": 1, "echo": True, "logprobs": 1}
    assert client.post(PATH, json=body).status_code == 504


@pytest.mark.parametrize(("prompt", "suffix"), [("a", "return a"), ("", "return a"), (["a", ""], "b")])
def test_a_suffix_is_passed_on(client: TestClient, recorder: Recorder, prompt: str, suffix: str) -> None:
    # The embedded model has no tokens for it, and says so.
    assert refused(client, prompt=prompt, suffix=suffix).param == "suffix"
    told = recorder.generation()
    assert (told.prompt, told.suffix) == (prompt[0] if prompt else "", suffix)


def test_a_suffix_that_is_empty_asks_for_nothing_where_the_model_has_no_tokens_for_it(client: TestClient) -> None:
    ask(client, prompt="a", suffix="")
    assert refused(client, prompt="", suffix="").param == "prompt"


def test_what_load_generators_send(client: TestClient, recorder: Recorder) -> None:
    ask(
        client,
        model="scripted",
        temperature=0.0,
        repetition_penalty=1.0,
        best_of=1,
        ignore_eos=True,
        logprobs=None,
        stop=None,
        max_tokens=30,
    )
    told = recorder.request()
    assert told.finished is not None
    assert told.finished.usage.completion_tokens == 30
    assert told.request is not None
    assert told.request.sampling.greedy


def test_an_error_midway(make_client: MakeClient, script: list[int]) -> None:
    client = make_client(ControlledEngine(script, fail=(2, OutOfMemory("The answer did not fit in memory."))))
    assert refused(client, 500).code == "out_of_memory"
    *chunks, last = frames(client.post(PATH, json={"prompt": "a", "stream": True}).text)
    assert len(chunks) == 2
    assert read_error(last).code == "out_of_memory"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": ["a", [1]]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [100, 49_152]}, "prompt"),
        ({"prompt": [10**30], "echo": True}, "prompt"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": ["a"] * 5, "n": 16}, "n"),
        ({"logprobs": 6}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": 1, "echo": True, "suffix": "x"}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"prompt": [1.0, 1.5]}, "prompt"),
        ({"suffix": 5}, "suffix"),
        ({"prompt": [1, 2], "suffix": "x"}, "suffix"),
        ({"echo": "yes"}, "echo"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"min_tokens": 17}, "min_tokens"),
        ({"messages": [1]}, "messages"),
        ({"tools": [1]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_what_is_wrong_is_named(client: TestClient, fields: dict[str, Any], param: str) -> None:
    error = refused(client, **fields)
    assert (error.type, error.param) == ("invalid_request_error", param)


@pytest.mark.parametrize("prompt", ["", ["a", ""]])
def test_an_empty_prompt_needs_a_suffix_whatever_the_model(client: TestClient, prompt: Any) -> None:
    assert refused(client, prompt=prompt).message == "prompt must not be empty without a suffix."


@pytest.mark.local_engine("a gateway has places of its own")
@pytest.mark.parametrize(("fields", "param"), [({"prompt": ["a", "b"]}, "prompt"), ({"n": 2}, "n")])
def test_more_answers_than_there_is_room_for(make_client: MakeClient, fields: dict[str, Any], param: str) -> None:
    client = make_client(ControlledEngine(capacity=Capacity(sequences=1, kv_tokens=100)), max_waiting=0)
    assert refused(client, **fields).param == param


def test_another_model_is_not_here(client: TestClient) -> None:
    assert refused(client, 404, model="secret").code == "model_not_found"


def test_a_body_that_is_no_object(client: TestClient) -> None:
    response = client.post(PATH, content=json.dumps(["secret"]), headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    assert "secret" not in response.text
    assert read_error(response.json()).type == "invalid_request_error"
