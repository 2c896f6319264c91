"""Logs and metrics agree to the request: after a mixed load their sums are equal, and every line keeps its schema."""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from stack.client import prometheus_value
from stack.smoke import await_true
from tests.e2e.conftest import Running
from tests.support.line_schema import faults

ROUNDS = 8
PATIENCE = 120  # seconds
MODEL = "smollm2-135m"
ROUNDING = 1e-4  # seconds: of a hundred lines with microseconds; everything else is whole numbers
STAGES = ("prepare", "grammar", "queue", "prefill", "decode")
COUNTERS = {
    "prompt_tokens": "serving_prompt_tokens_total",
    "completion_tokens": "serving_completion_tokens_total",
    "cached_tokens": "serving_cached_prompt_tokens_total",
}


class Client:
    """Sends requests of every kind, and remembers their ids."""

    def __init__(self, base: str) -> None:
        self._base = base
        self.ids: set[str] = set()

    def ask_all(self) -> None:
        kinds: list[Callable[[int], requests.Response]] = [
            lambda number: self._post("/", {"prompt": f"Name {number} birds.", "max_length": 8}),
            lambda number: self._chat(number, max_tokens=12, stop=["e"]),
            lambda number: self._chat(number, max_tokens=4, n=2),
            lambda number: self._chat(number, max_tokens=4, response_format={"type": "json_object"}),
            lambda number: self._read(self._chat(number, stream=True, max_tokens=8)),
            lambda number: self._leave(self._chat(number, stream=True, ignore_eos=True)),
            lambda number: self._chat(number, temperature=-1),
            lambda number: self._post("/v1/chat/completions", {"model": f"other-{number}", "messages": []}),
            lambda number: self._post("/v1/completions", {"model": MODEL, "prompt": f"word {number} " * 10_000}),
            lambda number: requests.get(f"{self._base}/v1/models/none-{number}", timeout=PATIENCE),
        ]
        with ThreadPoolExecutor(8) as pool:
            asked = [pool.submit(kind, number) for number in range(ROUNDS) for kind in kinds]
            self.ids = {future.result().headers["X-Request-ID"] for future in asked}
        assert len(self.ids) == ROUNDS * len(kinds)

    def _chat(self, number: int, **fields: Any) -> requests.Response:
        messages = [{"role": "user", "content": f"Count to {number} and on."}]
        return self._post("/v1/chat/completions", {"model": MODEL, "messages": messages} | fields)

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return requests.post(self._base + path, json=body, timeout=PATIENCE, stream=bool(body.get("stream")))

    def _read(self, response: requests.Response) -> requests.Response:
        assert response.content
        return response

    def _leave(self, response: requests.Response) -> requests.Response:
        assert next(response.iter_lines())
        response.close()
        return response


def test_the_logs_sums_are_the_counters_and_both_logs_have_every_request(stack: Running) -> None:
    before = counters(stack)
    client = Client(stack.config.address)
    client.ask_all()
    lines = await_true(lambda: all_lines(stack, "app", "request", client.ids), "the app's line of every request", 60)
    assert {identity: faults(line) for identity, line in lines.items() if faults(line)} == {}
    after = counters(stack)
    grown = {name: after[name] - before.get(name, 0.0) for name in after if after[name] != before.get(name, 0.0)}

    expected = expected_counters(list(lines.values()))
    assert {name: grown.get(name) for name in expected} == pytest.approx(expected, abs=ROUNDING)
    assert {name for name in grown if name not in expected} == set()

    proxied = await_true(lambda: all_lines(stack, "nginx", "access", client.ids), "nginx' line of every request", 60)
    sent = {name: 200 if line["status"] == 499 else line["status"] for name, line in lines.items()}
    assert {name: line["status"] for name, line in proxied.items()} == sent, "who left had seen a 200"


def expected_counters(lines: list[dict[str, Any]]) -> dict[str, float]:
    """What these lines come to."""
    sums: Counter[str] = Counter()
    for line in lines:
        outcome = line.get("finish_reason", "refused")
        sums[f"requests {outcome} {line['status']}"] += 1
        for field in COUNTERS:
            sums[field] += line.get(field, 0)
        if outcome == "refused":
            sums[f"refusals {line['error_code']}"] += 1
        for stage in STAGES:
            sums[f"stage {stage}"] += line.get(f"{stage}_s", 0) if "operation" in line else 0
        sums["first tokens"] += line.get("time_to_first_token_s") is not None
    return {name: value for name, value in sums.items() if value}


def counters(stack: Running) -> dict[str, float]:
    """Prometheus' counters, scraped after this moment."""
    now = time.time()
    scraped = "min(timestamp(serving_requests_total))"
    await_true(lambda: (prometheus_value(stack.config, scraped) or 0) > now, "a scrape", 60)
    address = f"http://127.0.0.1:{stack.config.prometheus_port}/api/v1/query"

    def by(query: str, name: str, *labels: str) -> dict[str, float]:
        samples = requests.get(address, params={"query": query}, timeout=PATIENCE).json()["data"]["result"]
        return {" ".join([name, *(each["metric"][x] for x in labels)]): float(each["value"][1]) for each in samples}

    found = by("sum by (outcome, status) (serving_requests_total)", "requests", "outcome", "status")
    found |= by("sum by (code) (serving_refusals_total)", "refusals", "code")
    found |= by("sum by (stage) (serving_request_stage_seconds_sum)", "stage", "stage")
    found |= by("sum(gen_ai_server_time_to_first_token_seconds_count)", "first tokens")
    for field, metric in COUNTERS.items():
        found |= by(f"sum({metric})", field)
    return found


def all_lines(stack: Running, service: str, event: str, ids: set[str]) -> dict[str, dict[str, Any]] | None:
    """The line of each of these requests; None while one is missing."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in stack.stack.log_lines(follow=False, tail=2000):
        if name == service and text.startswith("{"):
            line = json.loads(text)
            if line.get("event") == event and line.get("request_id") in ids:
                assert line["request_id"] not in found, "one line for each request"
                found[line["request_id"]] = line
    return found if set(found) == ids else None
