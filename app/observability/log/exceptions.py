"""An exception as a field of a log line. A library's message may quote what it failed on: with less than full content
in the log, only its length is told."""

import sys
import traceback
from collections.abc import Iterator
from types import TracebackType

from structlog.processors import format_exc_info
from structlog.typing import EventDict, WrappedLogger

from app.contract.options import CONTENT_OF_KEY, LogContent, least_content

_OURS = "app."  # our own messages never quote a prompt


class Exceptions:
    """Turns `exc_info` into `exception`."""

    def __init__(self, content: LogContent) -> None:
        self._content = content

    def __call__(self, logger: WrappedLogger, method: str, fields: EventDict) -> EventDict:
        of_key = fields.pop(CONTENT_OF_KEY, None)
        if least_content(self._content, of_key) is LogContent.FULL:
            return format_exc_info(logger, method, fields)
        error = _error(fields.pop("exc_info", None))
        if error is not None:
            fields["exception"] = "\n".join(_without_messages(error))
        return fields


def _error(given: object) -> BaseException | None:
    """Of what the standard library and structlog take for `exc_info`."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None


def _without_messages(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """The way to it and its type, causes first, as the standard library orders them. `seen`: a cause may be caused by
    what it caused."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None and id(before) not in seen:
        yield from _without_messages(before, seen | {id(error)})
        yield ""
    yield from _frames(error.__traceback__)
    kind = type(error)
    told = str(error) if kind.__module__.startswith(_OURS) else f"[{len(str(error))} characters]"
    yield f"{kind.__module__}.{kind.__qualname__}: {told}"


def _frames(way: TracebackType | None) -> Iterator[str]:
    for frame in traceback.format_tb(way):
        yield frame.rstrip("\n")
