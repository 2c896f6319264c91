"""`make report`: what a period was like, as a page in STATE_DIR."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from stack.client import served_model
from stack.config import Config
from stack.containers.stack import ContainerStack
from stack.native.stack import NativeStack
from stack.protocol import Stack, StackError
from stack.report.logged import logged
from stack.report.measured import measured
from stack.report.page import Report, page
from stack.report.period import Period, length, period
from stack.report.prometheus import Prometheus, Silent

_FRESH = 30  # seconds: an older sample is not Prometheus' last reading, but its last before it lost the app
_STARTED = "min(process_start_time_seconds)"
_LAST_READ = 'max(timestamp(process_start_time_seconds{job="app"}))'


def report(config: Config, arguments: Sequence[str]) -> None:
    """Raises StackError when the page cannot be written."""
    parser = argparse.ArgumentParser(prog="make report", usage="make report [LAST=90m]")
    parser.add_argument("--last", metavar="PERIOD", help="such as 90m, 6h or 2d; else an hour, or since the start")
    options = parser.parse_args(arguments)
    asked = None if options.last is None else length(options.last)
    found = _gather(config, asked)
    file = config.state_dir / "report.html"
    _write(file, page(found))
    print(f"{found.period.why[0].upper()}{found.period.why[1:]}, {len(found.logged.requests)} requests in the log.")
    if found.measured is None:
        print(f"Without Prometheus: {found.silence}.")
    print(f"Open it in a browser: {file}")


def _gather(config: Config, asked: float | None) -> Report:
    stacks: tuple[Stack, ...] = (ContainerStack(config), NativeStack(config))
    running = next((stack for stack in stacks if stack.processes()), None)
    stack = running or NativeStack(config)  # whose log outlives it
    about, figures, silence = period(asked, None, time.time()), None, "the stack is not running"
    if running is not None:
        prometheus = Prometheus(f"http://127.0.0.1:{config.prometheus_port}")
        try:
            about = _period(prometheus, asked)
            figures = measured(prometheus, about)
        except Silent as error:
            silence = str(error)
    return Report(
        period=about,
        model=None if running is None else served_model(config),
        measured=figures,
        silence=silence,
        logged=logged(stack.log_lines(follow=False), about),
    )


def _period(prometheus: Prometheus, asked: float | None) -> Period:
    """Up to Prometheus' last reading, so that it has counted what the log has."""
    now = time.time()
    read = prometheus.value(_LAST_READ)
    return period(asked, prometheus.value(_STARTED), read if read is not None and now - read < _FRESH else now)


def _write(file: Path, text: str) -> None:
    """Whole or not at all, and as private as the logs are."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as new:
            new.write(text)
        Path(new.name).replace(file)
    except OSError as error:
        raise StackError(f"{file}: {error.strerror}.") from None
