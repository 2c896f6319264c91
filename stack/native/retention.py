"""Ends logs by their age; supervisor itself knows sizes only.

`python -m stack.native.retention LOGS DAYS FILES`: an event listener of supervisor, which wakes it once an hour. Days
are whole ones of UTC, of a file's first line. A file goes whole when that line is older than DAYS. So that it holds
no more than a share of them, a log is put aside after DAYS / FILES, as supervisor does with one that is too large.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

_DATE = re.compile(rb"\d{4}-\d\d-\d\d(?=T\d\d:)")
_FIRST = 4096  # bytes in which a log's first line tells its day


def tend(folder: Path, days: int, files: int, today: date) -> bool:
    """Every log of the folder, once. Whether one was begun anew: then supervisor has to open it."""
    begun = False
    for log in folder.glob("*.log"):
        for each in folder.glob(f"{log.name}.*"):
            if each.suffix[1:].isdigit() and _age(each, today) > days:
                each.unlink()
        if _age(log, today) >= max(1, days // files):
            _put_aside(log, files)
            begun = True
    return begun


def _put_aside(log: Path, files: int) -> None:
    """So that its program begins it anew, and so many files of it are kept."""
    if files == 1:
        log.unlink()
        return
    for number in range(files - 2, 0, -1):
        older = _numbered(log, number)
        if older.exists():
            older.replace(_numbered(log, number + 1))
    log.replace(_numbered(log, 1))


def _age(log: Path, today: date) -> int:
    """Days since its first line with a time; 0 where it has none."""
    try:
        with log.open("rb") as file:
            found = _DATE.search(file.read(_FIRST))
        return (
            0 if found is None else (today - date.fromisoformat(found.group().decode("ascii"))) // timedelta(days=1)
        )
    except (OSError, ValueError):
        return 0


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def _await_event() -> None:
    """By supervisor's protocol for event listeners: ready, a header with the body's length, the body, a result."""
    print("READY", flush=True)
    header = dict(word.split(":") for word in sys.stdin.readline().split())
    sys.stdin.read(int(header["len"]))
    print("RESULT 2\nOK", end="", flush=True)


def main(folder: str, days: str, files: str) -> None:
    while True:
        if tend(Path(folder), int(days), int(files), datetime.now(timezone.utc).date()):
            os.kill(os.getppid(), signal.SIGUSR2)  # supervisor opens its logs again
        _await_event()


if __name__ == "__main__":
    main(*sys.argv[1:])
