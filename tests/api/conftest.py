"""The app over a scripted engine, within the test's process."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from app.contract.telemetry import Observers
from app.engine.grammars.compiler import Grammars
from app.engine.scripted import SCRIPTED_MODEL
from app.main import create_app
from app.serving.prompt.prompts import Prompts
from app.settings import Settings
from tests.support import deepseek
from tests.support.controlled import ControlledEngine
from tests.support.gateway import gateway, wait_until_ready
from tests.support.live import LiveServer
from tests.support.recorder import Recorder

ANSWER = " 你好! return a + b"


@pytest.fixture(scope="session")
def prompts(embedded_model: Path) -> Prompts:
    return Prompts(embedded_model, SCRIPTED_MODEL)


@pytest.fixture(scope="session")
def deepseek_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer of DeepSeek's family, which has tokens for a gap."""
    folder = tmp_path_factory.mktemp("deepseek")
    deepseek.save_tokenizer(folder)
    return folder


@pytest.fixture(scope="session")
def deepseek_prompts(deepseek_folder: Path) -> Prompts:
    return Prompts(deepseek_folder, deepseek.MODEL)


@pytest.fixture(scope="session")
def script(prompts: Prompts) -> list[int]:
    """The tokens of ANSWER."""
    return prompts.tokenizer.encode(ANSWER, add_special_tokens=False).ids


@pytest.fixture(scope="session")
def grammars(embedded_model: Path) -> Grammars:
    return Grammars(embedded_model, SCRIPTED_MODEL)


MakeApp = Callable[..., FastAPI]


OVER_BOTH = pytest.mark.parametrize("make_app", ["local", "remote"], indirect=True)
"""Runs a module's tests over an engine of the app's own, and over another of these apps behind a gateway.

Tests of what only an app has whose engine is its own are marked `local_engine`, with the reason.
"""


@pytest.fixture
def make_app(
    request: pytest.FixtureRequest, prompts: Prompts, grammars: Grammars, recorder: Recorder
) -> Iterator[MakeApp]:
    kind = getattr(request, "param", "local")
    mark = request.node.get_closest_marker("local_engine")
    if kind == "remote" and mark is not None:
        pytest.skip(mark.args[0])
    behind: list[LiveServer] = []

    def make(engine: ControlledEngine, **settings: Any) -> FastAPI:
        engine.grammars = grammars
        if kind == "remote":
            behind.append(LiveServer(create_app(Settings(), engine, prompts, Observers())))
            return gateway(f"{behind[-1].url}v1", observer=recorder, **settings)
        return create_app(
            Settings(**settings), engine, prompts, Observers([recorder]), lambda _: (b"up 1\n", "text/x")
        )

    yield make
    for server in behind:
        server.close()


MakeClient = Callable[..., TestClient]


@pytest.fixture
def make_client(make_app: MakeApp) -> Iterator[MakeClient]:
    """A client of a started app. What the app does not catch reaches the client as a response, as in real life."""
    with ExitStack() as stack:

        def make(engine: ControlledEngine, **settings: Any) -> TestClient:
            client = TestClient(make_app(engine, **settings), raise_server_exceptions=False)
            stack.enter_context(client)
            if engine.loads_at_once:
                wait_until_ready(lambda: client.get("/readyz").status_code)
            return client

        yield make


@pytest.fixture
def client(make_client: MakeClient, script: list[int]) -> TestClient:
    return make_client(ControlledEngine(script))


@pytest.fixture
def serve(make_app: MakeApp) -> Iterator[Callable[..., LiveServer]]:
    servers: list[LiveServer] = []

    def start(engine: ControlledEngine, **settings: Any) -> LiveServer:
        servers.append(LiveServer(make_app(engine, **settings)))
        if engine.loads_at_once:
            wait_until_ready(lambda: httpx2.get(f"{servers[-1].url}readyz").status_code)
        return servers[-1]

    yield start
    for server in servers:
        server.close()
