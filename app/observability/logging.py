"""Logs: one structlog chain, JSON lines on stdout, for our records and for every library's.

`configure_logging` runs when the app is built, which is in the worker and after gunicorn's UvicornWorker has given
uvicorn's loggers handlers of its own.
"""

import logging
import sys
from io import TextIOWrapper

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.observability.plain import plain, shorten_middle
from app.observability.request_log import LogObserver
from app.settings import Settings

__all__ = ["LogObserver", "configure_logging"]  # what main.py wires

FIELD_LIMIT = 8_192
"""Most characters of any field that is neither content nor an exception."""
EXCEPTION_LIMIT = 32_768
_CONTENT = frozenset({"prompt", "messages", "response", "choices", "stop"})
_MARKER = 64  # longer than what `shorten` appends to a text that it cut
_FIRST = ("timestamp", "level", "logger", "event", "request_id")
_LINE_BREAKS = (("\x85", "\\u0085"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))  # in Unicode, not in JSON
_NO_ACCESS_LOG = ("uvicorn.access", "gunicorn.access")  # the canonical line and nginx have it
_LATE = ("transformers", "huggingface_hub", "torch")


class _LibraryLogger(logging.Logger):
    """The root logger of a library that gives itself a handler when it is imported, which is after us.

    The handler is not taken, so its records go up to ours, and go out once.
    """

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802  # the standard library's name
        """Not taken."""

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        """Not taken."""


def configure_logging(settings: Settings) -> None:
    """May be called again; the last call holds."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            _Bounded(settings.log_content_limit),
            _render,
        ],
    )
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale says: prompts come in every language
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    logging.root.handlers = [handler]
    logging.root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    _adopt_libraries()


def _adopt_libraries() -> None:
    """Every library's records go up to the root handler."""
    for name in _LATE:
        late = logging.getLogger(name)
        late.handlers = []
        late.__class__ = _LibraryLogger
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in {"uvicorn", "gunicorn"}:
            logger.handlers = []  # a new list: the worker shares one between gunicorn's and uvicorn's loggers
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    for name in _NO_ACCESS_LOG:
        logging.getLogger(name).disabled = True


class _Bounded:
    """Makes every field plain JSON of bounded length. Content is bounded by LOG_CONTENT_LIMIT, whoever sends it."""

    def __init__(self, content_limit: int) -> None:
        self._content_limit = content_limit + _MARKER

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        fields.pop("color_message", None)  # uvicorn's message once more, with escape sequences
        return {name: self._bound(name, value) for name, value in fields.items()}

    def _bound(self, name: str, value: object) -> object:
        if name == "exception" and isinstance(value, str):
            return shorten_middle(value, EXCEPTION_LIMIT)
        return plain(value, self._content_limit if name in _CONTENT else FIELD_LIMIT)


def _render(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """One line: no text can forge another one, for JSON escapes newlines, and we what else some readers split at."""
    ordered = {name: fields.pop(name) for name in _FIRST if name in fields}
    line = orjson.dumps({**ordered, **fields}).decode()
    for character, escape in _LINE_BREAKS:
        line = line.replace(character, escape)
    return line
