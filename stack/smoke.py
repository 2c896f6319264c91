"""`make smoke`: one question through the proxy, and then its traces in the logs and in Prometheus."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from stack.client import ask, own_key, prometheus_value
from stack.config import Config
from stack.protocol import Stack, StackError

QUESTION = "Write a Python function named add that returns the sum of two numbers."
ANSWERED = 'sum(last_over_time(gen_ai_server_request_duration_seconds_count{error_type=""}[8s]))'
"""Of the last scrape alone, which is 5 s ago at most: for minutes after a restart a plain query has the old count."""
PATIENCE = 30  # seconds: a few scrapes
_Found = TypeVar("_Found")


def smoke(config: Config, stack: Stack) -> None:
    """Prints each check as it passes. Raises StackError at the first that fails."""
    before = prometheus_value(config, ANSWERED) or 0
    body = {"prompt": QUESTION, "history": [], "max_length": 48}
    answer = ask(f"{config.address}/", body, key=own_key(config), timeout=config.request_timeout)
    if answer is None:
        raise StackError(f"Nothing answers at {config.address}: start the stack with `make up`.")
    if answer.status != 200 or not answer.body.get("response"):
        raise StackError(f"The answer was {answer.status}: {json.dumps(answer.body, ensure_ascii=False)}")
    if not answer.request_id:
        raise StackError("The answer has no X-Request-ID.")
    _passed(f"answered: {answer.body['response'][:60]!r}…")

    line = await_true(lambda: find_line(stack, "app", "request", answer.request_id), "the app's log line")
    if "prompt" in line and QUESTION not in json.dumps(line["prompt"], ensure_ascii=False):
        raise StackError("The app's log line has a different prompt.")
    _passed(f"the app's log has request {answer.request_id}")
    await_true(lambda: find_line(stack, "nginx", "access", answer.request_id), "nginx's log line")
    _passed("nginx's log has the same id")
    if "Prometheus" not in stack.services():
        print("  --  Prometheus is not running: its counters were not checked", flush=True)
        return
    await_true(
        lambda: prometheus_value(config, ANSWERED) not in (None, before), "the request in Prometheus' counters"
    )
    _passed("Prometheus counted it")
    down = prometheus_value(config, 'count(up{job!="upstreams"} == 0)')  # not every engine exports metrics
    if down:
        raise StackError(f"{down:g} of Prometheus' targets do not answer.")
    _passed("every target of Prometheus answers")


def find_line(stack: Stack, service: str, event: str, request_id: str | None) -> dict[str, Any] | None:
    """The structured log line of that service about that request."""
    for name, line in stack.log_lines(follow=False, tail=1000):
        if name == service and request_id and request_id in line and line.startswith("{"):
            fields: dict[str, Any] = json.loads(line)
            if fields.get("event") == event:
                return fields
    return None


def await_true(look: Callable[[], _Found | None], what: str, patience: float = PATIENCE) -> _Found:
    """Look until there is something. Raises StackError, naming what is missing, after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise StackError(f"Not found within {patience:g} s: {what}.")
        time.sleep(0.2)


def _passed(text: str) -> None:
    print(f"  ok  {text}", flush=True)
