"""Sends one request to a server, through one of two APIs, and records the time of every piece of the answer."""

import itertools
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx2

from bench.load.outcome import Outcome

TOKENS_HEADER = "x-completion-tokens"
"""A server of ours that is measured through `POST /` may count its tokens here."""


class Ask(Protocol):
    async def __call__(self, http: httpx2.AsyncClient, prompt: str) -> Outcome:
        """Does not raise when the server fails: `Outcome.error` says so."""


@dataclass(frozen=True, slots=True)
class Chat:
    """`POST /v1/chat/completions`, streamed; greedy unless `extra` says otherwise."""

    base: str  # http://HOST:PORT
    model: str
    max_tokens: int | None  # None: the request does not say
    extra: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, http: httpx2.AsyncClient, prompt: str) -> Outcome:
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.max_tokens is not None:
            body["max_tokens"] = self.max_tokens
        return await _watched(http, f"{self.base}/v1/chat/completions", body | self.extra, _Chunks())


@dataclass(frozen=True, slots=True)
class Classic:
    """`POST /`, which always samples; `extra` may ask for `stream`."""

    base: str
    max_tokens: int
    extra: dict[str, Any] = field(default_factory=dict)

    async def __call__(self, http: httpx2.AsyncClient, prompt: str) -> Outcome:
        body = {"prompt": prompt, "history": [], "max_length": self.max_tokens}
        return await _watched(http, f"{self.base}/", body | self.extra, _Deltas())


class InTurn:
    """Several servers, one after the other."""

    def __init__(self, asks: Sequence[Ask]) -> None:
        self._asks = itertools.cycle(asks)

    async def __call__(self, http: httpx2.AsyncClient, prompt: str) -> Outcome:
        return await next(self._asks)(http, prompt)


class _Reader(Protocol):
    """Reads an answer, event by event. An answer that is not streamed is one event."""

    over: bool
    tokens: int | None

    def take(self, data: str) -> str:
        """The new text in an event; often none. Raises Broken."""


class Broken(Exception):
    """The server sent an error, or ended the stream early."""


class _Chunks:
    def __init__(self) -> None:
        self.over = False
        self.tokens: int | None = None

    def take(self, data: str) -> str:
        if data == "[DONE]":  # not every server sends it
            return ""
        chunk = json.loads(data)
        if chunk.get("error"):
            raise Broken(str(chunk["error"]))
        if chunk.get("usage"):
            self.tokens = chunk["usage"]["completion_tokens"]
        choices = chunk.get("choices") or ()
        self.over = self.over or any(choice.get("finish_reason") for choice in choices)
        return "".join((choice.get("delta") or {}).get("content") or "" for choice in choices)


class _Deltas:
    def __init__(self) -> None:
        self.over = False
        self.tokens: int | None = None
        self._streamed = False

    def take(self, data: str) -> str:
        event = json.loads(data)
        if "error" in event:
            raise Broken(str(event["error"]))
        if "response" in event:
            self.over = True
            return "" if self._streamed else str(event["response"])
        self._streamed = True
        return str(event["delta"])


async def _watched(http: httpx2.AsyncClient, url: str, body: dict[str, Any], reader: _Reader) -> Outcome:
    begun = time.monotonic()
    pieces: list[float] = []
    text: list[str] = []
    request_id = counted = error = None
    try:
        async with http.stream("POST", url, json=body) as response:
            request_id = response.headers.get("x-request-id")
            counted = response.headers.get(TOKENS_HEADER)
            async for data in _events(response):
                piece = reader.take(data)
                if piece:
                    pieces.append(time.monotonic())
                    text.append(piece)
        _refuse_unfinished(reader)
    except (httpx2.HTTPError, Broken, ValueError, KeyError) as failure:
        error = f"{type(failure).__name__}: {failure}"
    tokens = reader.tokens if counted is None else int(counted)
    return Outcome(begun, time.monotonic(), tuple(pieces), "".join(text), tokens, request_id, error)


async def _events(response: httpx2.Response) -> AsyncIterator[str]:
    if response.status_code != 200:
        raise Broken(f"{response.status_code}: {(await response.aread())[:200].decode(errors='replace')}")
    if response.headers.get("content-type", "").startswith("text/event-stream"):
        async for event in httpx2.EventSource(response):
            yield event.data
    else:
        yield (await response.aread()).decode()


def _refuse_unfinished(reader: _Reader) -> None:
    if not reader.over:
        raise Broken("the stream ended before the answer did")
