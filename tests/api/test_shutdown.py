"""gunicorn with our worker: SIGTERM drains, and a load that fails ends everything with a code that says so."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from tests.support.patience import PATIENCE

ROOT = Path(__file__).parent.parent.parent


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def gunicorn(model: Path, log: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "app.worker.Worker", "--workers", "1"]
    command += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "tests.api.scripted_app:build()"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, stderr=output, env=os.environ | {"TEST_MODEL": str(model)} | environment
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(60)


def wait_until(url: str, status: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None
        try:
            if requests.get(url, timeout=PATIENCE).status_code == status:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.05)  # another process: there is no event to wait for
    raise AssertionError(f"{url} never answered {status}")


def test_sigterm_ends_a_stream_with_an_error_event(embedded_model: Path, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    with gunicorn(embedded_model, tmp_path / "log", port) as process:
        wait_until(url + "readyz", 200, process)
        with requests.post(url, json={"prompt": "a", "stream": True}, stream=True, timeout=60) as stream:
            lines = (line for line in stream.iter_lines() if line)
            assert b"delta" in next(lines)
            process.send_signal(signal.SIGTERM)
            wait_until(url + "readyz", 503, process)
            refused = requests.post(url, json={"prompt": "a"}, timeout=PATIENCE)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "shutting_down"
            *_, last = lines
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "interrupted"
        assert process.wait(60) == 0
    assert "Application shutdown complete" in (tmp_path / "log").read_text()


def test_a_failed_load_stops_gunicorn_with_the_reason_in_the_log(embedded_model: Path, tmp_path: Path) -> None:
    with gunicorn(embedded_model, tmp_path / "log", free_port(), TEST_FAIL="1") as process:
        assert process.wait(60) == 3
    log = (tmp_path / "log").read_text()
    assert "the weights are not there" in log
    assert log.count("Booting worker") == 1
