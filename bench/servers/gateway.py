"""Two apps of ours without a model: one that computes nothing, and one that asks it, as a remote engine."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.model import SETTINGS
from bench.servers.process import server
from stack.host.ports import free_ports

_COMMAND = (sys.executable, "-m", "gunicorn", "--config", "docker/gunicorn.conf.py")
PLACES = 1024


@dataclass(frozen=True, slots=True)
class App:
    """One of them."""

    port: int

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def processor_seconds(self) -> float:
        """Of its processes, since they began."""
        listening = {
            each.pid
            for each in psutil.net_connections("tcp")
            if each.laddr and each.laddr.port == self.port and each.pid
        }
        return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in listening)


@contextmanager
def apps() -> Iterator[tuple[App, App]]:
    """The engine's app, and the gateway before it."""
    engine, gateway = (App(port) for port in free_ports(2))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        scripted = {"MAX_SEQUENCES": "512"}
        remote = {
            "ENGINE": "remote",
            "ENGINE_URL": f"{engine.base}/v1",
            "MAX_SEQUENCES": str(PLACES),
            "MODEL": "scripted",
        }
        for app, name, wanted, settings in (
            (engine, "scripted", ["app.main:build_scripted()"], scripted),
            (gateway, "gateway", [], remote),
        ):
            environment = _environment(folder, app, settings)
            stack.enter_context(
                server([*_COMMAND, *wanted], f"{app.base}/readyz", name=name, environment=environment)
            )
        yield engine, gateway


def _environment(folder: Path, app: App, settings: Mapping[str, str]) -> dict[str, str]:
    shared = {
        "APP_PORT": str(app.port),
        "CACHE_DIR": str(folder),
        "MAX_WAITING": str(PLACES),
        "MAX_WAIT": "600",
    }
    return {**os.environ, **SETTINGS, **shared, **settings}
