"""One replica: the whole app inside an actor of Ray Serve. This module and `deploy.py` alone import Ray."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError

from app.cluster.disconnects import Disconnects
from app.cluster.targets import MetricsListener
from app.contract.engine import EngineStatus
from app.contract.readiness import loss, refusal
from app.main import Built, build_replica
from app.settings import Settings

_POLL_SECONDS = 0.1


class Lost(Exception):
    """The engine is lost, or did not become ready: Serve puts another replica in this one's place."""


class Replica:
    """Serve calls `__serve_build_asgi_app__` in the actor, then the app's lifespan, and takes requests to it when the
    lifespan has begun. At the end it waits for the running requests, and ends the lifespan."""

    def __init__(self, settings: Settings, targets: Path) -> None:
        self._settings = settings
        self._targets = targets
        self._built: Built | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:  # Serve's name
        context = serve.get_replica_context()
        name = str(context.replica_id.unique_id)
        built = self._built = build_replica(self._settings, name)
        listener = MetricsListener(
            built.render_metrics, self._targets, replica=name, address=ray.util.get_node_ip_address()
        )
        built.app.router.lifespan_context = _around(built, listener)
        built.app.add_middleware(Disconnects, gone=RayError)
        return built.app

    async def check_health(self) -> None:
        """Raises Lost. Serve asks every few seconds; the app's own watch ends the process half a second after such a
        loss, and does not see an event loop that hangs, which this does by its silence."""
        if self._built is not None:
            error = loss(self._built.status())
            if error is not None:
                raise Lost(error.message)


def _around(built: Built, listener: MetricsListener) -> Callable[[FastAPI], Any]:
    """The app's lifespan, which begins when the model is loaded: before that no request is sent here."""
    inner = built.app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        async with inner(app):
            await listener.start()  # loading is to be seen in the metrics
            try:
                await _ready(built.status)
                yield
            finally:
                await listener.stop()

    return lifespan


async def _ready(status: Callable[[], EngineStatus]) -> None:
    """Raises Lost."""
    while refusal(status()) is not None:
        if (error := loss(status())) is not None:
            raise Lost(f"{error.message} {status().detail}")
        await asyncio.sleep(_POLL_SECONDS)
