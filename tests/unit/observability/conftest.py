"""Lines as an operator reads them: JSON, from standard output."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from app.observability.log.logging import configure_logging
from app.settings import Settings

Lines = Callable[[], list[dict[str, Any]]]
Configure = Callable[..., Lines]


@pytest.fixture
def configure(capsys: pytest.CaptureFixture[str]) -> Iterator[Configure]:
    """`configure(log_content=…)` sets up the logging; what it returns reads the lines since the last time."""
    root = logging.root
    handlers, level = root.handlers, root.level

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    def configure(**settings: Any) -> Lines:
        configure_logging(Settings(**settings, _env_file=None))
        return lines

    yield configure
    sys.stdout.flush()
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
