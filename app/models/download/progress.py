"""Shows the progress of a download: one bar on a terminal, a line every ten seconds in a log.

It measures the files on the disk, so it works with every hub's client, and after an interruption.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from app.models.units import gib

_LOG_SECONDS = 10.0
_BAR_SECONDS = 0.5


@contextmanager
def shown(folder: Path, total: int, console: Console, *, log_seconds: float = _LOG_SECONDS) -> Iterator[None]:
    """While the block runs, show how many of `total` bytes the folder has."""
    teller = _bar if console.is_terminal else _lines
    over = threading.Event()
    arguments = (folder, total, console, lambda: over.wait(_BAR_SECONDS if console.is_terminal else log_seconds))
    thread = threading.Thread(target=teller, args=arguments, name="progress")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def size_of(folder: Path) -> int:
    """Bytes of the files below the folder. A client may rename or remove files meanwhile."""
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return size


def _bar(folder: Path, total: int, console: Console, wait: Callable[[], bool]) -> None:
    columns = (TextColumn("{task.percentage:3.0f} %"), BarColumn(None), DownloadColumn(binary_units=True))
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=console, expand=True) as progress:
        task = progress.add_task("", total=total, completed=size_of(folder))
        while not wait():
            progress.update(task, completed=size_of(folder))
        progress.update(task, completed=size_of(folder))


def _lines(folder: Path, total: int, console: Console, wait: Callable[[], bool]) -> None:
    before, then = size_of(folder), time.monotonic()
    ended = False
    while not ended:
        ended = wait()
        size, now = size_of(folder), time.monotonic()
        rate = (size - before) / (now - then) if now > then else 0
        left = f", {_duration((total - size) / rate)} left" if rate > 0 and size < total else ""
        console.print(
            f"{size / total:4.0%}  {gib(size)} of {gib(total)}, {rate / 1e6:.0f} MB/s{left}", soft_wrap=True
        )
        before, then = size, now


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
