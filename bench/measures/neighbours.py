"""What one key's question takes beside another key that does what strangers do, against alone."""

import asyncio
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from bench.prompts import questions
from bench.results import Cell, Finding, Row, Spread, Table
from bench.run import Run
from bench.servers.stack import RunningStack, running_stack
from stack.install.dependencies import EMBEDDED

QUIET, LOUD = "key-of-the-quiet-one", "key-of-the-loud-one"
QUESTIONS = 5  # of the quiet key, one after the other, alone and beside each neighbour
TOKENS = 8
AT_ONCE = 16  # requests of the loud key
SLOW = 64  # its connections that send a byte every now and then
HEAD_START = 2.0  # seconds that a neighbour has before the first question
LARGE = 2_000_000  # bytes
PATIENCE = 120.0  # seconds


def measure(run: Run) -> Finding:
    asked, rounds = run.sizes(QUESTIONS, 1), 1 + run.rounds
    neighbours = {
        "40 endless answers at once": _endless,
        "bodies of 2 MB that are a list of numbers": _numbers,
        "prompts of 2 MB whose client leaves": _abandoned,
        "connections that send a byte a second": _slow,
        "long strings under a schema": _schemas,
    }
    run.bar.total(rounds * len(neighbours))
    run.bar.say("starting the stack")
    seconds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    failures: defaultdict[str, int] = defaultdict(int)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(f"quiet:{QUIET}\nloud:{LOUD}\n", encoding="utf-8")
        with running_stack({"API_KEYS_FILE": str(keys)}) as stack:
            fresh = iter(questions(2 * rounds * len(neighbours) * asked))
            for number in range(rounds):  # the first one warms up
                for name, neighbour in neighbours.items():
                    run.bar.say(f"{name}, round {number} of {run.rounds}")
                    time.sleep(HEAD_START)  # what the one before left behind ends
                    alone = asyncio.run(_ask(stack, [next(fresh) for _ in range(asked)]))
                    beside = asyncio.run(_beside(stack, neighbour, [next(fresh) for _ in range(asked)]))
                    if number:
                        seconds[name].append((statistics.median(alone[0]), statistics.median(beside[0])))
                        failures[name] += beside[1]
                    run.bar.step()
    return _finding(seconds, failures)


async def _ask(stack: RunningStack, prompts: list[str]) -> tuple[list[float], int]:
    """The seconds of each answer to the quiet key, and how many were none."""
    took, failed = [], 0
    async with httpx2.AsyncClient(timeout=PATIENCE, headers=_key(QUIET)) as http:
        for prompt in prompts:
            begun = time.perf_counter()
            answer = await http.post(f"{stack.base}/", json={"prompt": prompt, "max_length": TOKENS})
            took.append(time.perf_counter() - begun)
            failed += answer.status_code != 200
    return took, failed


Neighbour = Callable[[RunningStack, httpx2.AsyncClient], Coroutine[None, None, None]]
"""Goes on until it is cancelled."""


async def _beside(stack: RunningStack, neighbour: Neighbour, prompts: list[str]) -> tuple[list[float], int]:
    limits = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(timeout=PATIENCE, headers=_key(LOUD), limits=limits) as http:
        loud = asyncio.create_task(neighbour(stack, http))
        await asyncio.sleep(HEAD_START)
        try:
            return await _ask(stack, prompts)
        finally:
            loud.cancel()
            await asyncio.gather(loud, return_exceptions=True)


async def _again_and_again(ask: Callable[[], Awaitable[object]], at_once: int = AT_ONCE) -> None:
    async def one() -> None:
        while True:
            try:
                await ask()
            except httpx2.HTTPError:  # refused, or cut: a stranger asks again
                await asyncio.sleep(0.05)

    await asyncio.gather(*[one() for _ in range(at_once)])


async def _endless(stack: RunningStack, http: httpx2.AsyncClient) -> None:
    body = {"model": EMBEDDED, "messages": [{"role": "user", "content": "Count."}], "ignore_eos": True}
    await _again_and_again(lambda: http.post(f"{stack.base}/v1/chat/completions", json=body), at_once=40)


async def _numbers(stack: RunningStack, http: httpx2.AsyncClient) -> None:
    body = b'{"model":"x","messages":[{"role":"user","content":[' + b"0," * (LARGE // 2) + b"0]}]}"
    await _again_and_again(lambda: _post(stack, http, body))


async def _abandoned(stack: RunningStack, http: httpx2.AsyncClient) -> None:
    body = json.dumps({"prompt": "word and " * (LARGE // 9)}).encode()

    async def leave() -> None:
        try:
            await asyncio.wait_for(http.post(f"{stack.base}/", content=body, headers=_JSON), timeout=0.5)
        except TimeoutError:
            return

    await _again_and_again(leave)


async def _slow(stack: RunningStack, _http: httpx2.AsyncClient) -> None:
    address = urlsplit(stack.base)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {LOUD}\r\nContent-Length: 100000\r\n\r\n"

    async def one() -> None:
        while True:
            try:
                _, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(head.encode())
                while True:
                    writer.write(b" ")
                    await writer.drain()
                    await asyncio.sleep(1)
            except OSError:
                await asyncio.sleep(0.05)

    await asyncio.gather(*[one() for _ in range(SLOW)])


async def _schemas(stack: RunningStack, http: httpx2.AsyncClient) -> None:
    schema = {"type": "object", "properties": {"text": {"type": "string", "minLength": 3000, "maxLength": 3500}}}
    form = {"type": "json_schema", "json_schema": {"name": "long", "schema": schema | {"required": ["text"]}}}
    body = {"model": EMBEDDED, "messages": [{"role": "user", "content": "Write."}], "response_format": form}
    await _again_and_again(lambda: http.post(f"{stack.base}/v1/chat/completions", json=body))


_JSON = {"Content-Type": "application/json"}


async def _post(stack: RunningStack, http: httpx2.AsyncClient, body: bytes) -> object:
    return await http.post(f"{stack.base}/v1/chat/completions", content=body, headers=_JSON)


def _key(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _finding(seconds: dict[str, list[tuple[float, float]]], failures: dict[str, int]) -> Finding:
    rows, lines = [], []
    for name, pairs in seconds.items():
        alone, beside = zip(*pairs, strict=True)
        rows.append(
            Row(
                measure=f"beside {name}: answers of another key that were refused or failed",
                value=Spread.of([failures[name]]),
                target=0,
                bound="at most",
                unit="answers",
            )
        )
        ratio = Spread.of_ratios(beside, alone)
        line: list[Cell] = [name, statistics.median(alone), statistics.median(beside), ratio.median, ratio.high]
        lines.append(line)
    columns = ["neighbour", "alone, s", "beside it, s", "times", "at most"]
    notes = [
        f"{QUESTIONS} questions of {TOKENS} tokens, one after another, through nginx with keys; medians of rounds.",
        f"The neighbour has {AT_ONCE} requests at once, {SLOW} slow connections, and another key.",
        "Its program runs on the same cores, and takes its part of them.",
    ]
    return Finding(rows=rows, table=Table(columns=columns, rows=lines), notes=notes)
