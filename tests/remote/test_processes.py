"""A gateway and a model in processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.remote.conftest import Gateway, until
from tests.support.line_schema import faults
from tests.support.patience import PATIENCE
from tests.support.recorder import Recorder

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
BODY = {"messages": [{"role": "user", "content": "Count from one to five."}], "temperature": 0, "max_tokens": 12}
HEAVY = ("torch", "transformers", "accelerate", "tokenizers", "llguidance", "numba")
GATEWAY = f"""
import json, sys, time
from starlette.testclient import TestClient
from app.main import build
with TestClient(build()) as client:
    while client.get("/readyz").status_code != 200:
        time.sleep(0.05)
    answer = client.post("/v1/chat/completions", json={BODY!r}).json()
    metrics = client.get("/metrics").text
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print("TOLD " + json.dumps([answer, metrics, heavy]))
"""


@pytest.fixture(scope="module")
def model(embedded_model: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The embedded model, served by this stack's app without nginx: the process, and its address. It takes long to
    start; the last test kills it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "app.main:build", "--factory", "--port", str(port)]
    environment = os.environ | {"MODEL": "smollm2-135m", "MODELS_DIR": str(embedded_model.parent)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            until(lambda: _is_ready(port))
            yield process, f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()


def _is_ready(port: int) -> bool:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE).status_code == 200
    except httpx2.HTTPError:
        return False


def test_a_gateway_loads_no_library_of_models(model: tuple[subprocess.Popen[bytes], str]) -> None:
    environment = os.environ | {"ENGINE": "remote", "ENGINE_URL": model[1], "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [sys.executable, "-c", GATEWAY], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    told = next(line for line in run.stdout.splitlines() if line.startswith("TOLD "))
    answer, metrics, heavy = json.loads(told.removeprefix("TOLD "))
    assert heavy == []
    direct = httpx2.post(f"{model[1]}/chat/completions", json=BODY, timeout=PATIENCE).json()
    assert answer["choices"] == direct["choices"]
    assert answer["usage"]["completion_tokens"] == direct["usage"]["completion_tokens"]
    upstream = model[1].removeprefix("http://").removesuffix("/v1")
    assert f'serving_upstream_state{{state="up",upstream="{upstream}"}} 1.0' in metrics
    assert 'serving_request_stage_seconds_count{outcome="answered",stage="upstream"} 1.0' in metrics
    lines = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    (line,) = [line for line in lines if line["event"] == "request"]
    assert faults(line) == []
    assert (line["upstream"], line["status"]) == (upstream, 200)
    assert line["upstream_s"] > 0
    assert "top_p" not in line, "the server's own default, which is not known here"


def test_a_model_that_is_killed_midway(
    model: tuple[subprocess.Popen[bytes], str], ask: Gateway, recorder: Recorder
) -> None:
    process, address = model
    client = ask(address)
    body = BODY | {"max_tokens": 1000, "ignore_eos": True, "stream": True}
    with client.stream("POST", "v1/chat/completions", json=body) as response:
        lines = response.iter_lines()
        assert '"content"' in next(line for line in lines if '"content":"' in line and '"content":""' not in line)
        process.send_signal(signal.SIGKILL)
        *_, error, done = [line for line in lines if line]
    assert done == "data: [DONE]"
    assert json.loads(error.removeprefix("data: "))["error"]["code"] == "upstream_failed"
    told = recorder.request()
    assert (told.status, told.error_code) == (500, "upstream_failed")
    assert told.response
    until(lambda: client.get("readyz").status_code == 503)
    assert client.post("v1/chat/completions", json=BODY).status_code == 503
