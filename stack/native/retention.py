"""Ends logs by their age; supervisor itself knows sizes only.

`python -m stack.native.retention LOGS DAYS FILES`: an event listener of supervisor, which wakes it once an hour. Days
are whole ones of UTC: a log whose first line is of an earlier day is put aside, as supervisor does with one that is
too large, and what was put aside goes when its last line is older than DAYS.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

_DATE = re.compile(rb"\d{4}-\d\d-\d\d(?=T\d\d:)")
_FIRST = 4096  # bytes in which a log's first line tells its day


def put_aside(log: Path, files: int, today: date) -> bool:
    """Begin LOG anew if it began before `today`, and keep so many files of it. Whether it was."""
    day = _day(log)
    if day is None or day >= today:
        return False
    for number in range(files - 2, 0, -1):
        older = _numbered(log, number)
        if older.exists():
            older.replace(_numbered(log, number + 1))
    if files > 1:
        log.replace(_numbered(log, 1))
    else:
        log.unlink()
    return True


def remove_old(log: Path, days: int, now: float) -> None:
    """Of the files that were put aside those that nothing was written to for so many days. `now`: seconds, Unix."""
    for each in log.parent.glob(f"{log.name}.*"):
        if each.suffix[1:].isdigit() and each.stat().st_mtime < now - timedelta(days=days).total_seconds():
            each.unlink()


def _day(log: Path) -> date | None:
    """Of its first line with a time; None where it has none."""
    try:
        with log.open("rb") as file:
            found = _DATE.search(file.read(_FIRST))
            return None if found is None else date.fromisoformat(found.group().decode("ascii"))
    except (OSError, ValueError):
        return None


def _numbered(log: Path, number: int) -> Path:
    return log.with_name(f"{log.name}.{number}")


def tend(folder: Path, days: int, files: int) -> bool:
    """Every log of the folder, once. Whether one was begun anew: then supervisor has to open it."""
    today, begun = datetime.now(timezone.utc).date(), False
    for log in folder.glob("*.log"):
        begun |= put_aside(log, files, today)
        remove_old(log, days, time.time())
    return begun


def _await_event() -> None:
    """By supervisor's protocol for event listeners: ready, a header with the body's length, the body, a result."""
    print("READY", flush=True)
    header = dict(word.split(":") for word in sys.stdin.readline().split())
    sys.stdin.read(int(header["len"]))
    print("RESULT 2\nOK", end="", flush=True)


def main(folder: str, days: str, files: str) -> None:
    while True:
        if tend(Path(folder), int(days), int(files)):
            os.kill(os.getppid(), signal.SIGUSR2)  # supervisor opens its logs again
        _await_event()


if __name__ == "__main__":
    main(*sys.argv[1:])
