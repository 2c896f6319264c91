"""The keys file: a key on each line, as `name:key` or as a JSON object with the key's hash.

Blank lines and lines that begin with # say nothing, and stay where they are when the file is changed.
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from app.keys.record import KeyRecord, hash_of


class KeysFileError(Exception):
    """The file cannot be read or changed, or a line of it is wrong. The message names file and line, and no key."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it is written; its key, if it has one; and whether that is written plainly."""

    text: str
    record: KeyRecord | None = None
    plain: bool = False


def read(file: Path) -> list[Line]:
    """Raises KeysFileError."""
    try:
        text = file.read_bytes().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysFileError(f"{file} cannot be read: {error}.") from None
    try:
        return parse(text)
    except KeysFileError as error:
        raise KeysFileError(f"{file}, {error}") from None


def parse(text: str) -> list[Line]:
    """Lines that give the text again when they are joined by newlines. Raises KeysFileError."""
    lines = [_line(number, line) for number, line in enumerate(text.split("\n"), start=1)]
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.record is None:
            continue
        for what, value in (("name", line.record.name), ("key", line.record.sha256)):
            if (first := seen.setdefault(f"{what} {value}", number)) != number:
                raise KeysFileError(f"line {number}: its {what} is that of line {first} already.")
    return lines


@contextmanager
def changing(file: Path) -> Iterator[list[Line]]:
    """The lines, to be changed in place; the file is replaced at the end. Without an error in between, else it stays.

    Others that change it meanwhile wait, and readers see the old file or the new one. A new file is for its owner
    alone; another keeps its owner and mode. Raises KeysFileError.
    """
    file = file.resolve()  # a link stays one
    try:
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            lines = read(file) if file.exists() else [Line("")]
            yield lines
            _replace(file, "\n".join(line.text for line in lines))
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise KeysFileError(f"{file} cannot be changed: {error}.") from None


def append(lines: list[Line], record: KeyRecord) -> None:
    """At the end, whether the last line is complete or not."""
    if lines[-1].text:
        lines.append(Line(""))
    lines.insert(len(lines) - 1, as_line(record))


def as_line(record: KeyRecord) -> Line:
    return Line(record.model_dump_json(exclude_none=True), record)


def records(lines: Sequence[Line]) -> list[KeyRecord]:
    return [line.record for line in lines if line.record is not None]


def _line(number: int, text: str) -> Line:
    stripped = text.strip()
    if not stripped or stripped.startswith("#"):
        return Line(text)
    if stripped.startswith("{"):
        try:
            return Line(text, KeyRecord.model_validate_json(stripped))
        except ValidationError as error:
            said = error.errors(include_input=False)[0]  # an input may be a key
            place = ".".join(map(str, said["loc"]))
            raise KeysFileError(f"line {number}: {place}{': ' if place else ''}{said['msg']}.") from None
    name, _, key = (part.strip() for part in stripped.partition(":"))
    if not (name and key):
        raise KeysFileError(f"line {number}: expected `name:key`, or a JSON object.")
    return Line(text, KeyRecord(name=name, sha256=hash_of(key)), plain=True)


def _look_like(handle: int, old: os.stat_result) -> None:
    """Give an open file the old one's owner and mode. Raises OSError."""
    new = os.fstat(handle)
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        os.fchown(handle, old.st_uid, old.st_gid)  # who may not is refused: the server could not read its keys
    os.fchmod(handle, stat.S_IMODE(old.st_mode))


def _replace(file: Path, text: str) -> None:
    """Raises OSError; then the file is as it was."""
    handle, new = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "wb") as stream:
            if file.exists():
                _look_like(stream.fileno(), file.stat())
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        Path(new).replace(file)
    except BaseException:
        Path(new).unlink(missing_ok=True)
        raise
