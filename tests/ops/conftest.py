"""nginx, rendered from our templates and run for real, in front of a small upstream that the test plays."""

import queue
from collections.abc import Iterator

import pytest

from stack.host.ports import free_ports
from tests.support.proxy import Proxy, Upstream, played, running, say_ok


@pytest.fixture(scope="module")
def _server() -> Iterator[Upstream]:
    with played() as started:
        yield started


@pytest.fixture
def upstream(_server: Upstream) -> Upstream:
    """The app's part, fresh for each test."""
    _server.answer = say_ok
    _server.seen = queue.Queue()
    return _server


@pytest.fixture(scope="module")
def proxy(_server: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with running(tmp_path_factory.mktemp("nginx"), _server.port) as started:
        yield started


@pytest.fixture(scope="module")
def orphan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy whose app does not run."""
    with running(tmp_path_factory.mktemp("orphan"), free_ports(1)[0]) as started:
        yield started
