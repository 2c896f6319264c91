"""The stack's life: started twice, ended in the middle of an answer, orphaned, and stopped for good.

The tests of this file run in this order; the file is the last one by name.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from stack.client import ask
from stack.native.supervisor import Supervisor
from stack.smoke import await_true
from tests.e2e.conftest import MODE, Running

RECOVERY = 180  # seconds for the model to be loaded again on a busy machine


def processes_that_mention(text: str) -> list[str]:
    """From /proc, whatever the stack itself believes: command lines and environments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                known = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if text.encode() in known:
                found.append(f"{entry.name} {known[:200]!r}")
    return found


def end_of_a_stream(stack: Running, stop: Callable[[], object]) -> dict[str, Any]:
    """The last event of a long answer when something is stopped after its first."""
    body = {"prompt": "Count from one to one thousand, one number per line.", "max_length": 4000, "stream": True}
    with requests.post(stack.config.address, json=body, stream=True, timeout=RECOVERY) as response:
        lines = (line for line in response.iter_lines() if line.startswith(b"data:"))
        first = json.loads(next(lines)[5:])
        assert "delta" in first
        stop()
        events: list[dict[str, Any]] = [json.loads(line[5:]) for line in lines]  # a cut connection would raise here
    return events[-1]


def test_a_second_up_leaves_a_healthy_stack_alone(stack: Running) -> None:
    before = [line.split()[0] for line in stack.stack.processes()]
    output = stack.up()
    assert [line.split()[0] for line in stack.stack.processes()] == before
    assert "Serving smollm2-135m" in output
    assert stack.config.address in output
    assert "curl -X POST" in output


def test_sigterm_ends_a_stream_properly_and_the_app_comes_back(stack: Running) -> None:
    last = end_of_a_stream(stack, stack.terminate_app)
    assert last["status"] == 200 or last["error"]["code"] == "interrupted"
    assert "time" in last

    def ready() -> bool:
        answer = ask(f"{stack.config.address}/readyz")
        return answer is not None and answer.status == 200

    await_true(ready, "the app, started again", RECOVERY)
    again = requests.post(stack.config.address, json={"prompt": "Hello", "max_length": 4}, timeout=RECOVERY)
    assert again.status_code == 200


@pytest.mark.skipif(MODE == "docker", reason="Docker has no supervisor that could be lost")
def test_a_lost_supervisor_is_noticed_and_its_processes_do_not_stay(stack: Running) -> None:
    supervisor = Supervisor(stack.config.state_dir / "native")
    pid = supervisor.pid()
    os.kill(pid, signal.SIGKILL)
    await_true(lambda: not supervisor.alive(), "the end of supervisor")
    orphans = {line.split()[0] for line in stack.stack.processes()}
    assert len(orphans) >= 5  # the app and its worker, nginx and a worker, its exporter, Prometheus
    output = stack.up()
    assert "an earlier start" in output
    assert not orphans & {line.split()[0] for line in stack.stack.processes()}


def test_down_ends_a_stream_properly_and_leaves_nothing_running(stack: Running) -> None:
    assert processes_that_mention(str(stack.config.state_dir)) or MODE == "docker"
    last = end_of_a_stream(stack, stack.down)
    assert last["status"] == 200 or last["error"]["code"] == "interrupted"
    assert stack.stack.processes() == []
    assert processes_that_mention(str(stack.config.state_dir)) == []
    assert ask(f"{stack.config.address}/livez") is None
