"""`/v1/chat/completions` as OpenAI's clients know it: answers and streams."""

import pytest
from starlette.testclient import TestClient

from tests.api.chatting import PATH, USER, ask, refused, stream
from tests.api.conftest import ANSWER, OVER_BOTH, MakeClient
from tests.support.controlled import ControlledEngine
from tests.support.recorder import Recorder

pytestmark = OVER_BOTH


def test_an_answer(client: TestClient, script: list[int]) -> None:
    completion = ask(client)
    assert completion.id.startswith("chatcmpl-")
    assert completion.object == "chat.completion"
    assert completion.model == "scripted"
    assert completion.created > 1_700_000_000
    assert completion.system_fingerprint
    (choice,) = completion.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "stop", None)
    assert (choice.message.role, choice.message.content, choice.message.tool_calls) == ("assistant", ANSWER, None)


def test_usage_is_exact_and_timings_are_there(client: TestClient, script: list[int], recorder: Recorder) -> None:
    completion = ask(client)
    told = recorder.request().finished
    assert told is not None
    assert completion.usage is not None
    assert completion.usage.completion_tokens == len(script) + 1  # and the stop token
    assert completion.usage.prompt_tokens == told.usage.prompt_tokens > 5
    assert completion.usage.total_tokens == completion.usage.prompt_tokens + completion.usage.completion_tokens
    assert completion.usage.prompt_tokens_details is not None
    assert completion.usage.prompt_tokens_details.cached_tokens == told.usage.cached_tokens
    timings = (completion.model_extra or {})["timings"]
    assert list(timings) == ["queue_seconds", "prefill_seconds", "decode_seconds", "tokens_per_second"]
    assert timings["decode_seconds"] == round(told.timings.decode, 6)
    assert timings["tokens_per_second"] == pytest.approx(len(script) / told.timings.decode, rel=0.01)


def test_ids_are_unique_also_when_the_request_ids_are_not(client: TestClient) -> None:
    ids = {client.post(PATH, json={"messages": [USER]}, headers={"X-Request-ID": "x"}).json()["id"] for _ in range(3)}
    assert len(ids) == 3


def test_a_stream(client: TestClient) -> None:
    role, *content, last = stream(client)
    assert role.choices[0].delta.role == "assistant"
    assert len(content) > 3
    assert "".join(chunk.choices[0].delta.content or "" for chunk in content) == ANSWER
    assert all(chunk.choices[0].finish_reason is None for chunk in (role, *content))
    assert last.choices[0].finish_reason == "stop"
    assert not last.choices[0].delta.model_fields_set
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in (role, last)}) == 1
    assert all(chunk.usage is None for chunk in (role, *content, last))


def test_a_stream_without_words_has_its_first_chunk_all_the_same(make_client: MakeClient) -> None:
    role, last = stream(make_client(ControlledEngine([])))
    assert (role.choices[0].delta.role, last.choices[0].finish_reason) == ("assistant", "stop")


def test_a_stream_tells_its_usage_when_it_is_asked(client: TestClient) -> None:
    whole = ask(client)
    *chunks, last = stream(client, stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage is not None
    assert last.usage == whole.usage
    assert (last.model_extra or {})["timings"]["decode_seconds"] > 0
    assert all("usage" in chunk.model_fields_set and chunk.usage is None for chunk in chunks)


@pytest.mark.local_engine("what has come from another server may be ahead of what is written")
def test_a_stream_tells_its_usage_so_far_when_it_is_asked(client: TestClient, script: list[int]) -> None:
    chunks = stream(client, stream_options={"include_usage": True, "continuous_usage_stats": True})
    counts = [chunk.usage.completion_tokens for chunk in chunks if chunk.usage]
    assert len(counts) == len(chunks)
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (1, len(script) + 1)
    assert len({chunk.usage.prompt_tokens for chunk in chunks if chunk.usage}) == 1


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_the_limit_has_two_names(client: TestClient, limit: str) -> None:
    completion = ask(client, **{limit: 2})
    assert completion.choices[0].finish_reason == "length"
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 2
    assert stream(client, **{limit: 2})[-1].choices[0].finish_reason == "length"


def test_a_stop_string_ends_the_answer(client: TestClient) -> None:
    completion = ask(client, stop=["nowhere", "return"])
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (" 你好! ", "stop")
    assert ask(client, stop="return", min_tokens=50).choices[0].message.content == " 你好! "


def test_several_choices(make_client: MakeClient, recorder: Recorder) -> None:
    client = make_client(ControlledEngine())
    completion = ask(client, n=3, max_tokens=6, seed=5)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    texts = [choice.message.content for choice in completion.choices]
    assert len(set(texts)) == 3
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 18
    single = ask(client, max_tokens=6, seed=5)
    assert single.choices[0].message.content == texts[0]
    assert single.usage is not None
    assert completion.usage.prompt_tokens == single.usage.prompt_tokens
    chunks = stream(client, n=3, max_tokens=6, seed=5, stream_options={"include_usage": True})
    assert chunks[-1].usage == completion.usage
    streamed = dict.fromkeys(range(3), "")
    for chunk in chunks[:-1]:
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert list(streamed.values()) == texts
    assert [len(recorder.request().choices) for _ in range(3)] == [3, 0, 3]
    assert recorder.requests.empty()


def test_the_usage_so_far_counts_a_prompt_once_however_many_choices_it_has(client: TestClient) -> None:
    both = {"include_usage": True, "continuous_usage_stats": True}
    usages = [chunk.usage for chunk in stream(client, n=2, max_tokens=2, stream_options=both) if chunk.usage]
    assert len({usage.prompt_tokens for usage in usages}) == 1
    assert usages[-1].completion_tokens == 4


@pytest.mark.local_engine("another server may have finished the first choice before the second is asked for")
def test_streamed_choices_come_side_by_side(make_client: MakeClient) -> None:
    client = make_client(ControlledEngine())
    order = [chunk.choices[0].index for chunk in stream(client, n=2, max_tokens=20)]
    assert order != sorted(order)
    assert order[0] == 0


def test_logprobs(client: TestClient, script: list[int]) -> None:
    completion = ask(client, logprobs=True, top_logprobs=2)
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content is not None
    assert len(logprobs.content) == len(script)  # the stop token is not content
    assert b"".join(bytes(token.bytes or []) for token in logprobs.content) == ANSWER.encode()
    assert all(token.logprob == -0.5 for token in logprobs.content)
    assert all([top.logprob for top in token.top_logprobs] == [-0.5, -1.5] for token in logprobs.content)
    assert all(token.top_logprobs[0].bytes == token.bytes for token in logprobs.content)
    streamed = [
        token
        for chunk in stream(client, logprobs=True, top_logprobs=2)
        if (some := chunk.choices[0].logprobs) is not None
        for token in some.content or []
    ]
    assert [token.model_dump() for token in streamed] == [token.model_dump() for token in logprobs.content]


def test_logprobs_without_alternatives(client: TestClient) -> None:
    logprobs = ask(client, logprobs=True).choices[0].logprobs
    assert logprobs is not None
    assert all(token.top_logprobs == [] for token in logprobs.content or [])
    assert refused(client, {"messages": [USER], "top_logprobs": 2}).param == "top_logprobs"


@pytest.mark.local_engine("a gateway has places of its own")
def test_capacity_hints(client: TestClient) -> None:
    for streamed in (False, True):
        headers = client.post(PATH, json={"messages": [USER], "stream": streamed}).headers
        assert headers["x-ratelimit-limit-requests"] == "132"
        assert headers["x-ratelimit-remaining-requests"] == ("131" if streamed else "132")  # the answer holds a place
        assert headers["x-ratelimit-limit-tokens"] == "65536"
        assert (int(headers["x-ratelimit-remaining-tokens"]) < 65536) == streamed
