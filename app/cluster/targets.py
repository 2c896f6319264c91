"""Where Prometheus finds a replica: a listener of its own, and a file for `file_sd_configs`."""

import asyncio
import json
import os
import socket
from pathlib import Path

import psutil
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.api.probes import Render


class MetricsListener:
    """Answers /metrics of one replica on a free port of its node, for as long as the file is there."""

    def __init__(self, render: Render, folder: Path, *, replica: str, address: str) -> None:
        self._render = render
        self._replica = replica
        self._address = address
        self._folder = folder
        self._file = folder / f"{_host()}_{os.getpid()}_{replica}.json"
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        family = socket.AF_INET6 if ":" in self._address else socket.AF_INET
        listener = socket.socket(family)
        listener.bind((self._address, 0))
        port = listener.getsockname()[1]
        app = Starlette(routes=[Route("/metrics", self._metrics)])
        self._server = uvicorn.Server(
            uvicorn.Config(app, lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=1)
        )
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        await asyncio.to_thread(self._announce, port)

    async def stop(self) -> None:
        self._file.unlink(missing_ok=True)
        if self._server is not None and self._task is not None:
            self._server.should_exit = True
            await self._task

    async def _metrics(self, request: Request) -> Response:
        body, content_type = self._render(request.headers.get("accept", ""))
        return Response(body, headers={"content-type": content_type, "cache-control": "no-store"})

    def _announce(self, port: int) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        _remove_the_dead(self._folder)
        host = f"[{self._address}]" if ":" in self._address else self._address
        target = {"targets": [f"{host}:{port}"], "labels": {"replica": self._replica, "node": _host()}}
        begun = self._file.with_suffix(".new")  # Prometheus reads *.json: never half a file
        begun.write_text(json.dumps([target]), encoding="utf-8")
        begun.replace(self._file)


def _remove_the_dead(folder: Path) -> None:
    """Files of this machine's replicas that were killed, and could not remove them. The folder may be shared."""
    for file in folder.glob(f"{_host()}_*_*.json"):
        if not psutil.pid_exists(int(file.name.split("_")[1])):
            file.unlink(missing_ok=True)


def _host() -> str:
    """No name of a host has an underscore."""
    return socket.gethostname().replace("_", "-")
