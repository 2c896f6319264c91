"""Where lines come from: files, or standard input."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TextIO

from app.logs.line import RequestLine, parse

_POLL_SECONDS = 0.3


class LogsError(Exception):
    """What an operator asked for cannot be had; the message says why."""


def requests(files: Sequence[Path]) -> Iterator[RequestLine]:
    """In the order of the files. `-` is standard input. Raises LogsError."""
    for file in files:
        if str(file) == "-":
            yield from _parsed(sys.stdin)
            continue
        try:
            with file.open(encoding="utf-8", errors="replace") as lines:
                yield from _parsed(lines)
        except OSError as error:
            raise LogsError(f"{file}: {error.strerror}. Name a log file, or `-` for standard input.") from None


def followed(file: Path) -> Iterator[RequestLine]:
    """What is written from now on, without end, also after the file was replaced. Raises LogsError."""
    if str(file) == "-":
        yield from _parsed(sys.stdin)
        return
    try:
        lines: TextIO = file.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LogsError(f"{file}: {error.strerror}.") from None
    lines.seek(0, os.SEEK_END)
    begun = ""
    while True:
        begun += lines.readline()
        if begun.endswith("\n"):
            line = parse(begun)
            begun = ""
            if line is not None:
                yield line
        else:
            lines = _reopened(file, lines)
            time.sleep(_POLL_SECONDS)


def _reopened(file: Path, lines: TextIO) -> TextIO:
    """The file's successor, once there is one and this one is read."""
    try:
        if file.stat().st_ino == _inode(lines) and file.stat().st_size >= lines.tell():
            return lines
        successor = file.open(encoding="utf-8", errors="replace")
    except OSError:
        return lines
    lines.close()
    return successor


def _inode(lines: TextIO) -> int:
    return os.fstat(lines.fileno()).st_ino


def _parsed(lines: Iterable[str]) -> Iterator[RequestLine]:
    for text in lines:
        line = parse(text)
        if line is not None:
            yield line
