"""ENGINE=remote in containers, by a real engine: what computes the answers runs on this machine."""

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from app.contract.telemetry import Observers
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from stack.client import prometheus_value
from stack.config import ROOT, Config, load_config
from stack.host.ports import free_ports
from stack.smoke import await_true
from tests.support.controlled import ControlledEngine
from tests.support.live import LiveServer
from tests.support.patience import PATIENCE
from tests.support.stack_command import run_stack

pytestmark = [pytest.mark.docker, pytest.mark.model, pytest.mark.timeout(1500)]

KEY = "between-the-two"


@dataclass
class Gateway:
    environment: dict[str, str]
    config: Config

    def run(self, command: str) -> "subprocess.CompletedProcess[str]":
        """`python -m stack COMMAND`, as the Makefile runs it."""
        return run_stack(command, environment=self.environment, timeout=1200)  # its image is built first


@pytest.fixture
def behind(embedded_model: Path, tmp_path: Path) -> Iterator[LiveServer]:
    """Another of these stacks, which wants a key and tells a figure of vLLM's. It listens where containers reach this
    machine: on Docker's own bridge."""
    ask = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    address = subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip()
    (tmp_path / "keys").write_text(f"gateway:{KEY}\n")
    settings = Settings(_env_file=None, api_keys_file=tmp_path / "keys")
    prompts = Prompts(embedded_model, SCRIPTED_MODEL)
    told = b'vllm:num_requests_running{model_name="scripted"} 3\n', "text/plain; version=0.0.4"
    engine = ControlledEngine(range(100, 140))
    server = LiveServer(create_app(settings, engine, prompts, Observers(), lambda _: told), address)
    yield server
    server.close()


@pytest.fixture
def gateway(behind: LiveServer) -> Iterator[Gateway]:
    http, prometheus, grafana = map(str, free_ports(3))
    environment = {
        **os.environ,
        "MODE": "docker",
        "STATE_DIR": str(ROOT / "var" / "gateway"),  # always the same, or images would pile up
        "MODEL": "auto",
        "ENGINE": "remote",
        "ENGINE_URL": f"http://host.docker.internal:{behind.port}/v1",
        "ENGINE_API_KEY": KEY,
        "HTTP_PORT": http,
        "PROMETHEUS_PORT": prometheus,
        "GRAFANA_PORT": grafana,
        "DRAIN_SECONDS": "1",
    }
    gateway = Gateway(environment, load_config(environment, Path(os.devnull)))
    up = gateway.run("up")
    try:
        assert up.returncode == 0, up.stdout
        assert "Serving scripted" in up.stdout
        yield gateway
    finally:
        down = gateway.run("down")
        assert down.returncode == 0, down.stdout


def test_a_server_of_this_machine_computes_the_answers(gateway: Gateway, behind: LiveServer) -> None:
    asked = gateway.run("smoke")
    assert asked.returncode == 0, asked.stdout
    assert asked.stdout.count("  ok  ") == 5

    url = f"{gateway.config.address}/v1/chat/completions"
    question = {"model": "scripted", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 8}
    with requests.post(url, json={**question, "stream": True}, stream=True, timeout=PATIENCE) as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert lines[-1] == b"data: [DONE]"
    assert len(lines) > 8, "the tokens come one by one"

    name = f"host.docker.internal:{behind.port}"
    look = f'vllm:num_requests_running{{job="upstreams",instance="{name}"}} == 3'
    await_true(lambda: prometheus_value(gateway.config, look), "the server's own figure in Prometheus")
    assert prometheus_value(gateway.config, f'serving_upstream_state{{upstream="{name}",state="up"}}') == 1

    behind.close()
    refused = requests.post(url, json=question, timeout=PATIENCE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "upstream_unavailable")
