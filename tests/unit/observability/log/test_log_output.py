"""Lines that do not arrive are counted, and the log says so itself."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from app.observability.log.log_output import LogOutput, LogOutputCollector


def record(text: str) -> logging.LogRecord:
    return logging.LogRecord("app", logging.INFO, __file__, 1, text, None, None)


def metrics(output: LogOutput) -> dict[str, float]:
    registry = CollectorRegistry()
    registry.register(LogOutputCollector(output))
    lines = generate_latest(registry).decode().splitlines()
    return {name: float(value) for name, value in (line.split(" ") for line in lines if not line.startswith("#"))}


FULL = """
import logging, sys
from app.observability.log.log_output import LogOutputCollector
from app.observability.log.logging import configure_logging
from app.settings import load_settings
output = configure_logging(load_settings(None))
for number in range(1000):
    logging.getLogger("app").info("line %d", number)
lost = next(iter(LogOutputCollector(output).collect()))
print({each.labels["reason"]: each.value for each in lost.samples}, file=sys.stderr)
"""


def test_every_line_that_a_full_disk_refuses_is_counted() -> None:
    """/dev/full refuses each write as a full disk does. Nothing of it reaches stderr as a traceback."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-c", FULL],
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            text=True,
        )
    assert "'write_failed': 1000," in done.stderr
    assert "Traceback" not in done.stderr


class Sometimes(io.StringIO):
    full = False

    def write(self, text: str) -> int:
        if self.full:
            raise OSError(28, "No space left on device")
        return super().write(text)


def test_the_log_says_how_many_were_lost_once_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Sometimes()
    output = LogOutput(stream, tmp_path)
    monkeypatch.setattr(logging.root, "handlers", [output])
    output.emit(record("before"))
    stream.full = True
    for _ in range(3):
        output.emit(record("lost"))
    stream.full = False
    output.emit(record("after"))
    output.emit(record("later"))
    before, after, told, later = stream.getvalue().splitlines()
    assert (before, after, later) == ("before", "after", "later")
    assert told.startswith("3 log lines before this one were lost")
    assert metrics(output)['serving_log_lines_lost_total{reason="write_failed"}'] == 3


@pytest.mark.parametrize(("free", "lost"), [(0, 2.0), (1 << 30, 0.0)])
def test_behind_a_pipe_a_disk_without_room_loses_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, lost: float
) -> None:
    """supervisor and Docker read the pipe on, and throw away what they cannot write."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream, os.fdopen(reading):
        output = LogOutput(stream, tmp_path)
        monkeypatch.setattr(LogOutput, "free", lambda _: free)
        output.emit(record("one"))
        output.emit(record("two"))
        assert metrics(output)['serving_log_lines_lost_total{reason="no_room"}'] == lost


def test_the_free_room_is_that_of_the_logs_disk(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = metrics(LogOutput(io.StringIO(), tmp_path))["serving_log_disk_free_bytes"]
    assert 0 < free <= disk.f_frsize * disk.f_blocks
    assert "serving_log_disk_free_bytes" not in metrics(LogOutput(io.StringIO(), tmp_path / "none"))


def test_a_record_that_cannot_be_formatted_is_no_lost_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = LogOutput(io.StringIO(), tmp_path)
    output.emit(logging.LogRecord("app", logging.INFO, __file__, 1, "%d", ("text",), None))
    assert metrics(output)['serving_log_lines_lost_total{reason="write_failed"}'] == 0
    assert "Traceback" in capsys.readouterr().err
