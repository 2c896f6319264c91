"""The GPU check ends in time, and shows what matters first."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bench.gpu_check.report as reports
from bench.gpu_check.report import REST, SECTION_SECONDS, TABLE_LINES, Check, Report, Row
from bench.gpu_check.run import run_all


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return Report(tmp_path, Check("A card", "2026-01-02 03:04 UTC", "abc1234"))


def spinning() -> None:
    while True:
        pass


def test_an_engine_that_survives_failed_steps_does_not_outlive_the_limit(report: Report) -> None:
    def survives() -> Iterator[Row]:
        try:
            spinning()
        except Exception:  # noqa: BLE001  # as the engine's runner does
            yield Row("a figure of a step that was cut off", 1.0, ok=True)

    report.run("survives", survives, seconds=0.1)
    (section,) = report.sections
    assert section.error.startswith("TimeIsOverError")
    assert section.rows == []


def test_a_limit_that_was_swallowed_comes_again(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "AGAIN", 0.1)
    swallowed = []

    def swallows_once() -> Iterator[Row]:
        try:
            spinning()
        except BaseException as error:  # noqa: BLE001  # as a library's callback may do
            swallowed.append(error)
        spinning()
        yield Row("never", 1.0)

    report.run("swallows", swallows_once, seconds=0.1)
    assert swallowed
    assert report.sections[0].error.startswith("TimeIsOverError")
    report.run("the next one", lambda: iter([Row("fine", 1.0)]))
    assert not report.sections[1].failed


class EveryOneHangs(Report):
    """Each section takes all the time that it is given, on a clock of its own."""

    clock = 0.0

    def run(self, name: str, work: Callable[[], Iterator[Row]], seconds: float = SECTION_SECONDS) -> None:
        super().run(name, work, seconds)
        self.clock += seconds


@pytest.mark.parametrize("seconds", [60.0, 460.0, 480.0])
def test_the_run_ends_in_time_even_if_every_section_hangs(tmp_path: Path, seconds: float) -> None:
    report = EveryOneHangs(tmp_path, Check("A card", "2026-01-02 03:04 UTC", "abc1234"))
    works = {f"section {number}": lambda: iter([Row("one figure", 1.0)]) for number in range(15)}
    run_all(report, works, until=seconds, now=lambda: report.clock)
    assert seconds <= report.clock <= seconds + REST
    left_out = [section.name for section in report.sections if section.rows[0].value == "left out"]
    assert len(report.sections) == 15
    assert left_out[-1] == "section 14"


def test_failures_and_measures_with_bounds_are_in_the_table_whatever_else_there_is(report: Report) -> None:
    report.run("many", lambda: iter([Row(f"row {number}", float(number), ok=True) for number in range(100)]))
    report.run("memory", lambda: iter([Row("peak", 1.2, ok=False, must=True), Row("a note", "fine")]))
    report.run("decode", lambda: iter([Row("step", 2.0, ok=True, must=True), Row("not judged", 3.0, must=True)]))

    def breaks() -> Iterator[Row]:
        yield Row("one figure", 1.0)
        raise RuntimeError("no such kernel")

    report.run("breaks", breaks)
    lines = report.table().splitlines()
    assert len(lines) == TABLE_LINES
    assert [line.split()[0] for line in lines[:6]] == ["peak", "FAILED:", "measures", "step", "not", "many"]
    assert "FAILED" in lines[0]
    assert "no such kernel" in lines[1]
    shown = sum(line.startswith("  row ") for line in lines)
    hidden = (100 - shown) + 4  # with a header and a row of two sections
    assert lines[-1] == f"… and {hidden} more lines in the JSON"
