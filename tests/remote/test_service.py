"""The remote service itself: what is closed, refused and ended when its caller or the process stops."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from app.contract.engine import Phase
from app.contract.errors import Interrupted, InvalidRequest, Overloaded, PromptTooLong, ShuttingDown
from app.contract.events import Finished, TextEvent
from app.contract.requests import GenerationRequest, Message, Operation, SamplingParams
from app.contract.telemetry import Observers
from app.contract.terms import Terms
from app.remote.service import RemoteService
from app.settings import EngineKind, Settings
from tests.remote.conftest import Misbehaves, until
from tests.support.misbehaving import Refuses, Streams
from tests.support.recorder import Recorder

REQUEST = GenerationRequest(
    id="r", operation=Operation.CHAT, sampling=SamplingParams(seed=1), messages=(Message("user", "hi"),)
)
HANGS = Streams(("one",), then="hang")

Serve = Callable[..., Any]


@pytest.fixture
async def serve(recorder: Recorder) -> AsyncIterator[Serve]:
    services: list[RemoteService] = []

    async def start(*addresses: str, terms: Terms | None = None, **settings: Any) -> RemoteService:
        chosen = Settings(engine=EngineKind.REMOTE, engine_url=addresses, _env_file=None, **settings)
        terms_of = {} if terms is None else {"terms_of": lambda _: terms}
        service = RemoteService(Observers([recorder]), chosen, **terms_of)
        services.append(service)
        await service.start()
        await asyncio.to_thread(until, lambda: service.status().phase is Phase.READY)
        return service

    yield start
    for service in services:
        await service.stop()


async def left(server: Any) -> bool:
    return bool(await asyncio.to_thread(server.left.wait, 30))


async def test_an_answer_that_nobody_reads_is_ended(serve: Serve, misbehaves: Misbehaves, recorder: Recorder) -> None:
    server = misbehaves(otherwise=HANGS)
    service = await serve(server.address, max_sequences=1, max_waiting=0)
    async with await service.open(REQUEST):
        with pytest.raises(Overloaded):
            await service.open(REQUEST)
        recorder.request()
    assert await left(server)
    assert recorder.request().status == 499
    async with await service.open(REQUEST) as choices:
        assert isinstance((await anext(aiter(choices)))[1], TextEvent)


async def test_a_refusal_of_one_prompt_ends_the_requests_of_the_others(
    serve: Serve, misbehaves: Misbehaves, recorder: Recorder
) -> None:
    server = misbehaves(HANGS, Refuses(400, {"message": "no."}))
    service = await serve(server.address)
    text = replace(REQUEST, messages=(), prompt="a")
    with pytest.raises(InvalidRequest, match=r"no\."):
        await service.open(text, replace(text, prompt="b"))
    assert await left(server)
    assert recorder.request().error_code == "invalid_request"
    assert recorder.requests.empty()


async def test_a_drain_waits_for_answers_and_a_stop_ends_them(
    serve: Serve, misbehaves: Misbehaves, recorder: Recorder
) -> None:
    server = misbehaves(otherwise=HANGS)
    service = await serve(server.address)
    async with await service.open(REQUEST) as choices:
        events = aiter(choices)
        await anext(events)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await service.drain()
        with pytest.raises(ShuttingDown):
            await service.open(REQUEST)
        recorder.request()
        await service.stop()
        last = [event async for _, event in events][-1]
    assert isinstance(last, Finished)
    assert isinstance(last.error, Interrupted), "not a 503: some of it was computed"
    assert await left(server)
    assert service.status().phase is Phase.STOPPED


async def test_a_keys_own_limits_hold(serve: Serve, misbehaves: Misbehaves) -> None:
    service = await serve(misbehaves(otherwise=HANGS).address, terms=Terms(requests=1, prompt_tokens=100))
    long = replace(REQUEST, messages=(Message("user", "word " * 200),))
    with pytest.raises(PromptTooLong, match="limit is 100"):
        await service.open(long)
    async with await service.open(REQUEST):
        with pytest.raises(Overloaded, match="its limit is 1"):
            await service.open(REQUEST)


async def test_a_long_request_is_written_on_a_thread_and_arrives_whole(serve: Serve, misbehaves: Misbehaves) -> None:
    server = misbehaves()
    service = await serve(server.address)
    text = "word " * 50_000
    async with await service.open(replace(REQUEST, messages=(Message("user", text),))) as choices:
        assert [event async for _, event in choices]
    assert server.bodies[0]["messages"][0]["content"] == text


async def test_who_waits_for_a_place_is_ended_by_the_deadline(
    serve: Serve, misbehaves: Misbehaves, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = await serve(misbehaves(otherwise=HANGS).address, max_sequences=1)
    began = time.monotonic()
    async with await service.open(REQUEST) as first:
        await anext(aiter(first))
        monkeypatch.setattr(service, "_timeout", 1.0)  # of the next one alone: the first keeps the place
        async with asyncio.timeout(30):
            with pytest.raises(Exception, match="longer than this server allows"):
                await service.open(REQUEST)
    assert time.monotonic() - began >= 1.0
    assert recorder.request().error_code == "deadline_exceeded"
