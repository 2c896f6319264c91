"""The app over a GPU that is played."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.servers.gateway import COMMAND, App, environment_of
from bench.servers.process import server
from stack.host.ports import free_ports

_WANTED = "bench.workers.played_app:build()"


@contextmanager
def played_app(name: str, settings: Mapping[str, str]) -> Iterator[App]:
    """Raises Failed."""
    app = App(free_ports(1)[0])
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        environment = environment_of(Path(folder), app, settings)
        with server([*COMMAND, _WANTED], f"{app.base}/readyz", name=name, environment=environment):
            yield app
