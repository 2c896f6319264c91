"""Where log lines go, and how many did not arrive there."""

import logging
import os
import stat
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_WRITE_FAILED = "write_failed"
_NO_ROOM = "no_room"


class LogOutput(logging.Handler):
    """Writes lines to a stream, and counts those that were lost.

    Behind a pipe another program writes the file (supervisor, Docker), and does not say when it cannot: there a line
    counts as lost when the disk of `folder` has no room for it. Once there is room again, a line says how many were
    lost. A record that cannot be formatted is reported on stderr, as the standard library does.
    """

    def __init__(self, stream: TextIO, folder: Path) -> None:
        super().__init__()
        self._stream = stream
        self._folder = folder
        self._piped = _is_piped(stream)
        self._untold = 0
        self.lost: Counter[str] = Counter({_WRITE_FAILED: 0, _NO_ROOM: 0})

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001  # whatever a record holds
            self.handleError(record)
            return
        reason = self._write(line)
        if reason is not None:
            self.lost[reason] += 1
            self._untold += 1
        elif self._untold:
            self._tell()

    def free(self) -> int | None:
        """Bytes that this user may still write to the disk of `folder`; None where that cannot be found out."""
        try:
            disk = os.statvfs(self._folder)
        except OSError:
            return None
        return disk.f_frsize * (disk.f_bfree if os.geteuid() == 0 else disk.f_bavail)

    def _write(self, line: str) -> str | None:
        """Why the line was lost; None when it was not."""
        free = self.free() if self._piped else None
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):  # a full disk, a reader that left; a stream that was closed
            return _WRITE_FAILED
        return _NO_ROOM if free is not None and free < len(line) else None

    def _tell(self) -> None:
        untold, self._untold = self._untold, 0  # first: the line comes here again
        logging.getLogger(__name__).error(
            "%d log lines before this one were lost: their disk was full, or nobody read them", untold
        )


class LogOutputCollector(Collector):
    """The metrics of a LogOutput."""

    def __init__(self, output: LogOutput) -> None:
        self._output = output

    def collect(self) -> Iterable[Metric]:
        lost = CounterMetricFamily(
            "serving_log_lines_lost",
            "Lines of the app's log that were lost: writing failed, or the disk of the log had no room for them.",
            labels=("reason",),
        )
        for reason, count in self._output.lost.items():
            lost.add_metric((reason,), count)
        yield lost
        free = self._output.free()
        if free is not None:
            yield GaugeMetricFamily("serving_log_disk_free_bytes", "Free room on the disk of the log.", value=free)


def _is_piped(stream: TextIO) -> bool:
    try:
        return not stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):  # a test's stream has no descriptor
        return False
