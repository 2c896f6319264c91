"""A log as the app writes it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.contract.telemetry import RequestEnded
from app.observability.log.request_log import LogObserver
from app.settings import Settings
from tests.support.events import ANSWERED, BAD_BODY, CANCELLED, REFUSED, broken
from tests.unit.observability.conftest import Configure, configure

__all__ = ["configure"]

BEGAN = datetime(2027, 1, 31, 18, 30, tzinfo=UTC)
Write = Callable[[Sequence[RequestEnded]], Path]


def named(event: RequestEnded, identity: str, tenant: str = "blue", **changes: Any) -> RequestEnded:
    request = event.request and replace(event.request, id=identity, tenant=tenant)
    return replace(event, id=identity, request=request, **changes)


EVENTS = [
    named(ANSWERED, "aaaa-quick", duration=0.5),
    named(ANSWERED, "bbbb-slow", "red", duration=9.0),
    named(CANCELLED, "cccc-left", "red"),
    named(REFUSED, "dddd-refused"),
    replace(BAD_BODY, id="eeee-bad"),
    named(broken(), "ffff-broken"),
]


@pytest.fixture
def write(configure: Configure, tmp_path: Path) -> Write:
    """Lines that end a minute after one another, among others that are no requests."""

    def write(events: Sequence[RequestEnded]) -> Path:
        read = configure(log_content="full")
        observer = LogObserver(Settings(_env_file=None))
        for event in events:
            observer.notify(event)
        file = tmp_path / "app.log"
        with file.open("w", encoding="utf-8") as log:
            log.write('Traceback (most recent call last):\n{"event": "phase", "logger": "app.engine"}\n')
            log.write('{"event": "request", "ti\n')
            for number, line in enumerate(read()):
                ended = BEGAN + timedelta(minutes=number)
                log.write(json.dumps(line | {"timestamp": ended.isoformat().replace("+00:00", "Z")}) + "\n")
        return file

    return write


@pytest.fixture
def log(write: Write) -> Path:
    return write(EVENTS)
