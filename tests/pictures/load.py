"""A mixed load: answers, streams, clients that leave, and requests that are refused."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count

import requests

CLIENTS = 6
PATIENCE = 120  # seconds
SYSTEM = "You are a careful reviewer of Python code. Point out defects, then say how to mend them. " * 6
TOPICS = ("quicksort", "a trie", "an LRU cache", "binary search", "a rate limiter", "topological order")


def put_load(base: str, stop: threading.Event) -> None:
    """CLIENTS at once, until `stop` is set; each takes the next kind of request in turn."""
    model = requests.get(f"{base}/v1/models", timeout=PATIENCE).json()["data"][0]["id"]
    turns, lock = count(), threading.Lock()

    def client() -> None:
        while not stop.is_set():
            with lock:
                turn = next(turns)
            with suppress(requests.RequestException):  # those that leave, and those that are turned away
                KINDS[turn % len(KINDS)](base, model, turn)

    with ThreadPoolExecutor(CLIENTS) as pool:
        for done in [pool.submit(client) for _ in range(CLIENTS)]:
            done.result()


def _chat(base: str, model: str, turn: int, *, tokens: int, stream: bool = False) -> requests.Response:
    messages = [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"Write {TOPICS[turn % len(TOPICS)]}, version {turn}."},
    ]
    body = {"model": model, "messages": messages, "max_tokens": tokens, "stream": stream}
    return requests.post(f"{base}/v1/chat/completions", json=body, stream=stream, timeout=PATIENCE)


def _short(base: str, model: str, turn: int) -> None:
    _chat(base, model, turn, tokens=24)


def _long(base: str, model: str, turn: int) -> None:
    for _ in _chat(base, model, turn, tokens=120, stream=True).iter_lines():
        pass


def _leaves(base: str, model: str, turn: int) -> None:
    with _chat(base, model, turn, tokens=200, stream=True) as answer:
        next(answer.iter_lines())


def _plain(base: str, _model: str, turn: int) -> None:
    requests.post(f"{base}/", json={"prompt": f"{'x = 1; ' * (turn % 40)}", "max_length": 300}, timeout=PATIENCE)


def _wrong(base: str, model: str, turn: int) -> None:
    body = {"model": model, "messages": [], "temperature": turn}
    requests.post(f"{base}/v1/chat/completions", json=body, timeout=PATIENCE)


KINDS: tuple[Callable[[str, str, int], None], ...] = (_short, _long, _plain, _leaves, _short, _wrong)
