"""Two boxes behind one nginx, each drained and stopped in the middle of a load: no request is lost."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from stack.config import ROOT
from stack.host.ports import free_ports
from stack.smoke import await_true
from tests.support.patience import PATIENCE
from tests.support.proxy import NEEDS_NGINX, Proxy, running

pytestmark = [NEEDS_NGINX, pytest.mark.native]

CLIENTS = 6
TOKENS = 300
"""Of each answer: at any moment some are being computed by either box."""


@dataclass
class Box:
    """The app over the scripted engine, under gunicorn as the stack runs it."""

    port: int
    environment: dict[str, str] = field(repr=False)
    process: "subprocess.Popen[bytes]" = field(init=False, repr=False)

    def start(self) -> None:
        command = [
            sys.executable,
            "-m",
            "gunicorn",
            "--config",
            "docker/gunicorn.conf.py",
            "app.main:build_scripted()",
        ]
        self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        await_true(self._ready, f"the app on port {self.port}", PATIENCE)

    def drain(self) -> None:
        """SIGTERM, and return when the process has ended by itself."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)

    def _ready(self) -> bool:
        assert self.process.poll() is None
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=PATIENCE).ok
        except requests.ConnectionError:
            return False


class Load:
    """Clients that ask one question after another, every second one for a stream, until `stop`."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/v1/chat/completions"
        self._stopped = threading.Event()
        self._answered = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._ask_on, args=(number,)) for number in range(CLIENTS)]
        self.failures: list[str] = []
        for thread in self._threads:
            thread.start()

    def wait_for(self, answers: int) -> None:
        """Return when that many more have been answered."""
        for _ in range(answers):
            assert self._answered.acquire(timeout=PATIENCE), self.failures

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask_on(self, client: int) -> None:
        question = 0
        while not self._stopped.is_set():
            question += 1
            try:
                problem = self._ask(f"Client {client}, question {question}. {'x' * 800}", question % 2 == 0)
            except requests.RequestException as error:
                problem = repr(error)
            if problem:
                self.failures.append(problem)
            self._answered.release()

    def _ask(self, content: str, stream: bool) -> str:
        """Whether an answer came and was whole: what is wrong with it."""
        body = {"model": "scripted", "messages": [{"role": "user", "content": content}], "max_tokens": TOKENS}
        # A session of its own for each: also the connection is new.
        response = requests.post(self._url, json={**body, "stream": stream, "ignore_eos": True}, timeout=PATIENCE)
        whole = response.text.endswith("data: [DONE]\n\n") if stream else response.text.endswith("}")
        said = '"finish_reason":"length"' in response.text.replace(" ", "")
        return (
            "" if response.status_code == 200 and whole and said else f"{response.status_code} {response.text[-300:]}"
        )


@contextmanager
def _boxes(models: Path, count: int) -> Iterator[list[Box]]:
    """Up, ready, and gone at the end."""
    boxes = [
        Box(port, {**os.environ, "APP_PORT": str(port), "MODELS_DIR": str(models), "LOG_CONTENT": "off"})
        for port in free_ports(count)
    ]
    with ExitStack() as stack:
        for box in boxes:
            box.start()
            stack.callback(box.end)  # the process that it has by then
        for box in boxes:
            box.wait_until_ready()
        yield boxes


def _answered_by(front: Proxy, upstream: str) -> bool:
    """Whether that address answers one of the next requests of the load; the log so far is forgotten."""
    while not front.log.empty():
        front.log.get_nowait()
    lines = (front.log.get(timeout=PATIENCE) for _ in range(3 * CLIENTS))
    return any(f'{upstream}"' in line and '"upstream_status":200' in line for line in lines)


def test_a_box_can_be_drained_and_started_again_under_load(embedded_model: Path, tmp_path: Path) -> None:
    """The first is this stack's own app, the second another stack: its nginx stays when its app is gone."""
    with (
        _boxes(embedded_model.parent, 2) as (own, other),
        running(tmp_path / "other", other.port) as stack,
        running(tmp_path / "front", own.port, {"UPSTREAMS": f"127.0.0.1:{stack.port}"}) as front,
    ):
        apps, stacks = f"127.0.0.1:{own.port}", f"127.0.0.1:{stack.port}"
        load = Load(front.port)
        try:
            load.wait_for(CLIENTS)
            assert _answered_by(front, stacks)
            own.drain()
            load.wait_for(2 * CLIENTS)
            assert not _answered_by(front, apps)
            own.start()
            own.wait_until_ready()
            await_true(lambda: _answered_by(front, apps), "its part of the load", PATIENCE)
            other.drain()
            load.wait_for(2 * CLIENTS)
            assert not _answered_by(front, stacks)
        finally:
            load.stop()
    assert load.failures == []
