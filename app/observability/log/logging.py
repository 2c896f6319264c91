"""Logs: JSON lines on stdout for our records and those of every library, by one structlog chain.

`configure_logging` runs when the app is built, in the worker, after gunicorn's UvicornWorker has set handlers on
uvicorn's loggers.
"""

import json
import logging
import sys
import unicodedata
from io import TextIOWrapper

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.observability.log.exceptions import Exceptions
from app.observability.log.log_output import LogOutput
from app.observability.log.plain import plain, shorten_middle
from app.settings import Settings

FIELD_LIMIT = 8_192
"""Most characters of any field that is neither content nor an exception."""
EXCEPTION_LIMIT = 32_768
_CONTENT = frozenset({"prompt", "messages", "response", "choices", "stop", "stop_string"})
_MARKER = 64  # more than `shorten` appends to a shortened text
_FIRST = ("timestamp", "level", "logger", "event", "request_id")
_ACTS = frozenset({"Cc", "Cf", "Cs", "Co", "Zl", "Zp"})
"""Unicode's categories of what a terminal may obey, reorder, hide or break at; JSON escapes some below U+0020."""
_NO_ACCESS_LOG = ("uvicorn.access", "gunicorn.access")  # our line for each request and nginx' log have the same
_TOO_TALKATIVE = ("httpx2", "httpcore2")  # a record for each request to another server
_TALKATIVE = ("numba",)  # its compiler's debug records of one start are thousands
_LATE = ("transformers", "huggingface_hub", "torch")


class _LibraryLogger(logging.Logger):
    """The root logger of a library that adds a handler to itself when it is imported, after our configuration.

    It ignores that handler, so the library's records go to our handler only.
    """

    def addHandler(self, hdlr: logging.Handler) -> None:  # noqa: N802  # the standard library's name
        """Ignored."""

    @property
    def propagate(self) -> bool:
        return True

    @propagate.setter
    def propagate(self, value: bool) -> None:
        """Ignored."""


def configure_logging(settings: Settings, *, replica: str | None = None) -> LogOutput:
    """May be called again; the last call counts. What it returns knows how many lines were lost.

    As one replica of several every line has its name, and goes to the process' own standard output: Ray Serve puts
    something else in its place, which writes before each line.
    """
    stream = sys.stdout if replica is None else sys.__stdout__ or sys.stdout
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        *([] if replica is None else [_From(replica)]),
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
            Exceptions(settings.log_content),
            _Bounded(settings.log_content_limit),
            _render,
        ],
    )
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(encoding="utf-8")  # independent of the locale: prompts have every language
    output = LogOutput(stream, settings.log_folder)
    output.setFormatter(formatter)
    logging.root.handlers = [output]
    logging.root.setLevel(settings.log_level.upper())
    logging.captureWarnings(capture=True)
    _adopt_libraries()
    return output


def _adopt_libraries() -> None:
    """Send the records of every library to the root handler."""
    for name in _LATE:
        late = logging.getLogger(name)
        late.handlers = []
        late.__class__ = _LibraryLogger
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and name.partition(".")[0] in {"uvicorn", "gunicorn"}:
            logger.handlers = []  # a new list: the worker shares one between gunicorn's and uvicorn's loggers
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
    for name in _TOO_TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.INFO)
    for name in _NO_ACCESS_LOG:
        logging.getLogger(name).disabled = True


class _From:
    """Says of every line which replica wrote it."""

    def __init__(self, replica: str) -> None:
        self._replica = replica

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        return {**fields, "replica": self._replica}


class _Bounded:
    """Converts every field to plain JSON of limited length. LOG_CONTENT_LIMIT applies to content in every record."""

    def __init__(self, content_limit: int) -> None:
        self._content_limit = content_limit + _MARKER

    def __call__(self, _logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
        fields.pop("color_message", None)  # uvicorn's message again, with escape sequences
        return {name: self._bound(name, value) for name, value in fields.items()}

    def _bound(self, name: str, value: object) -> object:
        if name == "exception" and isinstance(value, str):
            return shorten_middle(value, EXCEPTION_LIMIT)
        return plain(value, self._content_limit if name in _CONTENT else FIELD_LIMIT)


def _render(_logger: WrappedLogger, _method: str, fields: EventDict) -> str:
    """One line. No text can forge a second one, or act on the terminal of somebody who looks at the file."""
    ordered = {name: fields.pop(name) for name in _FIRST if name in fields}
    line = orjson.dumps({**ordered, **fields}).decode()
    if line.isprintable():
        return line
    for character in set(line):
        if unicodedata.category(character) in _ACTS:
            line = line.replace(character, json.dumps(character)[1:-1])
    return line
