"""gunicorn's worker class: uvicorn, with a limit to its wait for open connections.

The deadlines of a shutdown, in order: the engine drains for at most `DRAIN_SECONDS` (app/lifecycle.py); the server
waits LAST_BYTES_SECONDS for open connections; gunicorn kills the worker after `graceful_timeout`; Docker kills the
container after `stop_grace_period`. Each is later than the ones before it. Without LAST_BYTES_SECONDS gunicorn would
kill the worker before the lifespan's end.
"""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker

from app.api.http.protocol import Protocol

LAST_BYTES_SECONDS = 5


class Worker(UvicornWorker):  # type: ignore[misc]  # uvicorn_worker has no types
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        **UvicornWorker.CONFIG_KWARGS,
        "http": Protocol,
        "timeout_graceful_shutdown": LAST_BYTES_SECONDS,
    }
