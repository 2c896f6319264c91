"""A gateway on a real port, in front of real servers within the test's process."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.contract.telemetry import Observers
from app.engine.grammars.compiler import Grammars
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support.controlled import ControlledEngine
from tests.support.gateway import gateway
from tests.support.live import LiveServer
from tests.support.misbehaving import MisbehavingServer
from tests.support.patience import PATIENCE
from tests.support.recorder import Recorder

Gateway = Callable[..., httpx2.Client]
Stack = Callable[..., LiveServer]
Misbehaves = Callable[..., MisbehavingServer]


@pytest.fixture(scope="session")
def prompts(embedded_model: Path) -> Prompts:
    return Prompts(embedded_model, SCRIPTED_MODEL)


@pytest.fixture(scope="session")
def grammars(embedded_model: Path) -> Grammars:
    return Grammars(embedded_model, SCRIPTED_MODEL)


@pytest.fixture
def behind() -> Recorder:
    """What the servers behind the gateway tell of their requests."""
    return Recorder()


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """What is closed after the test, the last first: a gateway before its servers."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def stack(prompts: Prompts, grammars: Grammars, behind: Recorder, closing: ExitStack) -> Stack:
    """Another of these stacks, over an engine that the test controls."""

    def start(engine: ControlledEngine, **settings: Any) -> LiveServer:
        engine.grammars = grammars
        server = LiveServer(create_app(Settings(_env_file=None, **settings), engine, prompts, Observers([behind])))
        closing.callback(server.close)
        return server

    return start


@pytest.fixture
def misbehaves(closing: ExitStack) -> Misbehaves:
    def start(*plays: Any, **options: Any) -> MisbehavingServer:
        server = MisbehavingServer(*plays, **options)
        closing.callback(server.close)
        return server

    return start


@pytest.fixture
def ask(recorder: Recorder, closing: ExitStack) -> Gateway:
    """A client of a new gateway in front of these addresses; ready, unless `wait` is false."""

    def start(*addresses: str, wait: bool = True, **settings: Any) -> httpx2.Client:
        server = LiveServer(gateway(*addresses, observer=recorder, **settings))
        closing.callback(server.close)
        client = httpx2.Client(base_url=server.url, timeout=PATIENCE)
        closing.callback(client.close)
        if wait:
            until(lambda: client.get("readyz").status_code == 200)
        return client

    return start


def until(reached: Callable[[], bool]) -> None:
    """For what the other side does by itself, within seconds."""
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)
