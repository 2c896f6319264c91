"""The load generator counts what a server really sent, and calls an answer that broke off an error."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bench.load.ask import Ask, Chat, Classic
from bench.load.loop import closed_loop
from bench.load.outcome import Outcome, figures, most_at_once
from bench.measures.no_limit import Fitted

CHUNK = '{"choices": [{"index": 0, "delta": {"content": "%s"}}]}'
USAGE = '{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": %d}}'
END = '{"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}'
ROLE = '{"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}'


class Scripted:
    """Answers each prompt with the events of its script, and counts the requests at a time."""

    def __init__(self, scripts: dict[str, list[str]]) -> None:
        self._scripts = scripts
        self.asked: list[str] = []
        self.limits: dict[str, int | None] = {}  # the max_tokens of each prompt
        self.together = 0
        self._now = 0
        self.meet = 1  # answers wait for this number of clients
        self._met = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = next(int(line.split(":")[1]) for line in head if line.lower().startswith("content-length"))
            body = json.loads(await reader.readexactly(length))
            prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
            self.asked.append(prompt)
            self.limits[prompt] = body.get("max_tokens")
            self._now += 1
            self.together = max(self.together, self._now)
            if self._now >= self.meet:
                self._met.set()
            await self._met.wait()
            writer.write(_answer(self._scripts[prompt]))
            await writer.drain()
            self._now -= 1
        writer.close()


async def _head(reader: asyncio.StreamReader) -> list[str]:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return []


def _answer(events: list[str]) -> bytes:
    if events and events[0].isdigit():
        status, body = events[0], events[1].encode()
        return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    body = b": keep-alive\n\n" + "".join(f"data: {event}\n\n" for event in events).encode()
    return (
        f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    )


@asynccontextmanager
async def listening(server: Scripted) -> AsyncIterator[str]:
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listener:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"


async def outcome(script: list[str], api: type[Chat] | type[Classic] = Chat) -> Outcome:
    async with listening(Scripted({"hello": script})) as base:
        ask: Ask = Chat(base, "m", 8) if api is Chat else Classic(base, 8)
        (only,) = await closed_loop(ask, ["hello"], clients=1)
    return only


async def test_tokens_are_the_servers_count_and_not_the_number_of_pieces() -> None:
    got = await outcome([ROLE, CHUNK % "two tokens", CHUNK % " more", END, USAGE % 5, "[DONE]"])
    assert (got.error, got.text, got.tokens, len(got.pieces)) == (None, "two tokens more", 5, 2)
    assert got.begun <= got.pieces[0] <= got.pieces[1] <= got.ended


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([CHUNK % "half", USAGE % 1, "[DONE]"], "ended before"),
        ([CHUNK % "half", '{"error": {"code": "out_of_memory"}}', END, "[DONE]"], "out_of_memory"),
        (["429", '{"error": "full"}'], "429"),
        (["not json", "[DONE]"], "JSONDecodeError"),
    ],
)
async def test_an_answer_that_breaks_off_is_an_error(script: list[str], said: str) -> None:
    got = await outcome(script)
    assert got.error is not None
    assert said in got.error
    summary = figures([got, Outcome(begun=got.begun, ended=got.ended, tokens=3)], clients=1)
    assert (summary.answers, summary.errors, summary.tokens) == (1, 1, 3)


async def test_the_classic_api_is_read_streamed_and_refused() -> None:
    got = await outcome(['{"delta": "a"}', '{"delta": "b"}', '{"response": "ab", "status": 200}'], Classic)
    assert (got.error, got.text, len(got.pieces), got.tokens) == (None, "ab", 2, None)
    got = await outcome(['{"delta": "a"}', '{"error": {"code": "shutting_down"}, "status": 503}'], Classic)
    assert "shutting_down" in (got.error or "")
    with pytest.raises(ValueError, match="how many tokens"):
        figures([Outcome(0, 1, (0.5,), "ab")], clients=1)


async def test_every_prompt_is_asked_once_by_so_many_clients_at_a_time() -> None:
    prompts = [f"p{n}" for n in range(10)]
    server = Scripted({prompt: [CHUNK % "x", END, USAGE % 1] for prompt in prompts})
    server.meet = 4
    answered: list[None] = []
    async with listening(server) as base:
        outcomes = await closed_loop(Chat(base, "m", 8), prompts, 4, lambda: answered.append(None))
    assert sorted(server.asked) == prompts
    assert len(outcomes) == len(answered) == 10
    assert server.together == 4


async def test_a_chat_says_its_own_limit_or_none() -> None:
    server = Scripted({prompt: [CHUNK % "x", END, USAGE % 1] for prompt in ("short", "long", "open")})
    async with listening(server) as base:
        chat = Chat(base, "m", None)
        await closed_loop(Fitted(chat, {"short": 3, "long": 70}), ["short", "long"], 1)
        await closed_loop(chat, ["open"], 1)
    assert server.limits == {"short": 3, "long": 70, "open": None}


def test_answers_are_under_way_from_their_first_piece_to_their_end() -> None:
    waits, begins = Outcome(0, 9, (6, 8)), Outcome(0, 5, (1, 4))
    assert most_at_once([waits, begins]) == 1
    assert most_at_once([waits, begins, Outcome(0, 7, (2,)), Outcome(0, 7, error="429")]) == 2
    assert most_at_once([]) == 0


def test_figures_are_taken_over_the_whole_time_and_all_gaps() -> None:
    summary = figures(
        [Outcome(0.0, 4.0, (1.0, 2.0, 4.0), "abc", 6), Outcome(1.0, 10.0, (4.0, 9.0), "ab", 4)], clients=2
    )
    assert summary.tokens_per_second == 1.0
    assert (summary.first_token, summary.gap, summary.gap_worst, summary.answer) == (2.0, 2.0, 5.0, 6.5)
