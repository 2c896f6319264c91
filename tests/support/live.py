"""The app on a real port, within the test's process."""

import asyncio
import threading
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI

from app.api.http.protocol import Protocol


class LiveServer:
    """A real uvicorn on a free port, in a thread: for what a test client cannot do, such as leaving."""

    def __init__(self, app: FastAPI, host: str = "127.0.0.1") -> None:
        self._server = uvicorn.Server(uvicorn.Config(app, host=host, port=0, log_config=None, http=Protocol))
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._up.wait(30)
        self.port: int = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://{host}:{self.port}/"

    def _run(self) -> None:
        async def serve() -> None:
            startup = self._server.startup

            async def tell(**kwargs: object) -> None:
                await startup(**kwargs)  # type: ignore[arg-type]  # uvicorn's own arguments, passed on
                self._up.set()

            self._server.startup = tell  # type: ignore[method-assign, assignment]  # the only way to learn that it listens
            await self._server.serve()

        self._loop.run_until_complete(serve())

    def call(self, function: Callable[[], object]) -> None:
        """On the server's event loop."""
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        self._loop.close()
