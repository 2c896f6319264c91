"""gunicorn: one worker that owns the model, and a ladder of deadlines for its end.

Each rung outlasts the one before it, so that what ends an answer is always the gentlest thing that still can:

    DRAIN_SECONDS      the app lets running answers finish, then ends each with an error event (app/lifecycle.py)
    + 5                uvicorn has waited for the last bytes; the app's shutdown runs (app/worker.py)
    + 10               gunicorn kills the worker (graceful_timeout, below)
    + 20               supervisor or Docker kills gunicorn (stop_seconds in stack/config.py)
"""

# gunicorn looks for a file of this name

import signal
import sys
from typing import Any

from app.settings import SettingsError, load_settings

try:
    _settings = load_settings()
except SettingsError as error:
    sys.exit(f"The settings are wrong:\n{error}")

wsgi_app = "app.main:build()"
bind = [
    f"[{_settings.app_host}]:{_settings.app_port}"
    if ":" in _settings.app_host
    else f"{_settings.app_host}:{_settings.app_port}"
]
worker_class = "app.worker.Worker"
logger_class = "app.observability.log.gunicorn_log.GunicornLogger"

workers = 1
preload_app = False  # CUDA does not survive a fork
max_requests = 0  # a worker that is started again loads the model again
timeout = 60  # heartbeat of the event loop, no limit of a request or of loading: nothing computes on the loop
graceful_timeout = _settings.drain_seconds + 10
keepalive = 75  # longer than nginx's idle connections to us (60 s), so that nginx is the one that closes
worker_tmp_dir = "/dev/shm"  # noqa: S108  # the heartbeat's file: memory, and writable on a read-only root
control_socket_disable = True  # it would write to a home directory that a container does not have


def on_starting(server: Any) -> None:
    """A second worker would be a second model on the same GPUs."""
    if server.cfg.workers != 1:
        sys.exit(f"workers = {server.cfg.workers}: this service runs exactly one worker, which owns the model.")


def when_ready(_server: Any) -> None:
    """The signals that would start a second worker beside the first are ignored: HUP, TTIN, USR2."""
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
