"""One stack for all end-to-end tests, started and stopped by the commands that an operator types.

E2E_MODE says how it runs: native (`make test`) or docker (`make test-docker`). The tests are the same.
"""

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack.config import ROOT, Config, load_config
from stack.containers.compose import Compose
from stack.containers.stack import ContainerStack
from stack.host.ports import free_ports
from stack.native.stack import NativeStack
from stack.native.supervisor import Supervisor
from stack.protocol import Stack
from tests.support.stack_command import run_stack

MODE = os.environ.get("E2E_MODE", "native")
HERE = Path(__file__).parent
START_SECONDS = 1200  # containers are built first


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`-m docker` and `-m native` choose by the way the stack runs in this session."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(MODE)
            item.add_marker(pytest.mark.timeout(START_SECONDS + 300))


@dataclass
class Running:
    """A stack of its own: free ports, its own STATE_DIR; the models are the repository's."""

    environment: dict[str, str] = field(repr=False)
    config: Config
    stack: Stack
    is_up: bool = field(default=False, init=False)

    def run(self, command: str, timeout: float = START_SECONDS) -> subprocess.CompletedProcess[str]:
        """`python -m stack COMMAND`, as the Makefile runs it."""
        return run_stack(command, environment=self.environment, timeout=timeout)

    def up(self) -> str:
        done = self.run("up")
        self.is_up = done.returncode == 0
        assert self.is_up, done.stdout
        return done.stdout

    def down(self) -> str:
        done = self.run("down", timeout=180)
        self.is_up = False
        assert done.returncode == 0, done.stdout
        return done.stdout

    def terminate_app(self) -> None:
        """Send SIGTERM to gunicorn's master, as an orchestrator does. Returns at once."""
        if MODE == "docker":
            # From inside: after `docker kill` the engine would not start the app again. Process 1 is the engine's
            # init, which hands the signal on to gunicorn.
            Compose(self.config).run("exec", "-T", "app", "sh", "-c", "kill -TERM 1")
        else:
            programs = Supervisor(self.config.state_dir / "native").programs()
            os.kill(int(programs["app"]["pid"]), signal.SIGTERM)


@contextmanager
def _state_dir() -> Iterator[str]:
    """For containers always the same, because their images and volumes are named after it and would pile up.

    For plain processes one of its own, with a short path: it holds a socket, whose path has a limit.
    """
    if MODE == "docker":
        yield str(ROOT / "var" / "e2e")
        return
    with tempfile.TemporaryDirectory(prefix="e2e-", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture(scope="session")
def _stack() -> Iterator[Running]:
    http, prometheus, grafana = free_ports(3)
    with _state_dir() as folder:
        environment = {
            **os.environ,
            "MODE": MODE,
            "MODEL": "smollm2-135m",
            "MODELS_DIR": os.environ.get("MODELS_DIR") or str(ROOT / "var" / "models"),
            "STATE_DIR": folder,
            "HTTP_PORT": str(http),
            "PROMETHEUS_PORT": str(prometheus),
            "GRAFANA_PORT": str(grafana),
            "DRAIN_SECONDS": "2",
        }
        config = load_config(environment, Path("no.env"))
        running = Running(environment, config, ContainerStack(config) if MODE == "docker" else NativeStack(config))
        try:
            yield running
        finally:
            running.down()


@pytest.fixture
def stack(_stack: Running) -> Running:
    """The stack, up."""
    if not _stack.is_up:
        _stack.up()
    return _stack
