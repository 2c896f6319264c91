"""Apps of ours without a model: some that compute nothing, and one that asks them, as a remote engine."""

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

COMMAND = (sys.executable, "-m", "gunicorn", "--config", "docker/gunicorn.conf.py")
PLACES = 1024
ENGINES = 4
"""As many as a thousand streams need: each takes 512 requests, of which 128 prompts of one key wait to be read."""


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
def apps() -> Iterator[tuple[list[App], App]]:
    """The engines' apps, and the gateway before them."""
    *engines, gateway = (App(port) for port in free_ports(ENGINES + 1))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        scripted = {"MAX_SEQUENCES": "512"}
        remote = {
            "ENGINE": "remote",
            "ENGINE_URL": ",".join(f"{engine.base}/v1" for engine in engines),
            "MAX_SEQUENCES": str(PLACES),
            "MODEL": "scripted",
        }
        for app, name, wanted, settings in (
            *((engine, "scripted", ["app.main:build_scripted()"], scripted) for engine in engines),
            (gateway, "gateway", [], remote),
        ):
            environment = environment_of(folder, app, settings)
            stack.enter_context(server([*COMMAND, *wanted], f"{app.base}/readyz", name=name, environment=environment))
        yield engines, gateway


def environment_of(folder: Path, app: App, settings: Mapping[str, str]) -> dict[str, str]:
    shared = {
        "APP_PORT": str(app.port),
        "CACHE_DIR": str(folder),
        "MAX_WAITING": str(PLACES),
        "MAX_WAIT": "600",
    }
    return {**os.environ, **SETTINGS, **shared, **settings}
