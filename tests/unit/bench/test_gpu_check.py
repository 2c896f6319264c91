"""The GPU check runs to its end anywhere, and says what it left out and what failed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.gpu_check.report import TABLE_LINES, Check, Report, Row, load_all
from bench.gpu_check.table import markdown
from stack.config import ROOT


def report(out: Path) -> Report:
    return Report(out, Check("A card", "2026-01-02 03:04 UTC", "abc1234"))


def test_without_a_gpu_it_runs_to_its_end_and_says_what_it_left_out(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.gpu_check", "--out", str(tmp_path)]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, check=False, cwd=ROOT, env=hidden, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sections = {
        section["name"]: section for section in json.loads((tmp_path / "no-gpu.json").read_text())["sections"]
    }
    assert [name for name, section in sections.items() if section["error"]] == []
    left_out = {name for name, section in sections.items() if any(r["value"] == "left out" for r in section["rows"])}
    kernels = {"attention", "kernels", "operations", "heads"}
    assert left_out == {"faults", "captured", "copies", "memory", "llama", *kernels}
    exact = sections["exactness"]["rows"]
    assert [row["ok"] for row in exact] == [True, True, True], exact


def test_a_section_that_fails_stops_no_other_and_fails_the_run(tmp_path: Path) -> None:
    def breaks() -> Iterator[Row]:
        yield Row("one figure", 1.5, "ms")
        raise RuntimeError("no such kernel")

    checked = report(tmp_path)
    checked.run("first", breaks)
    assert checked.failed
    checked.run("second", lambda: iter([Row("another", "fine", ok=True)]))
    (stored,) = load_all(tmp_path)
    assert [(section.error, len(section.rows)) for section in stored.sections] == [
        ("RuntimeError: no such kernel", 1),
        ("", 1),
    ]
    assert "no such kernel" in checked.table()
    assert "| first | **failed** | | RuntimeError: no such kernel |" in markdown([stored])


def test_a_figure_past_its_bound_fails_the_run(tmp_path: Path) -> None:
    checked = report(tmp_path)
    checked.run("only", lambda: iter([Row("fine", 1.0, ok=True), Row("too much", 3.0, ok=False)]))
    assert checked.failed
    assert "FAILED" in checked.table()


def test_a_section_that_takes_too_long_ends_and_keeps_its_findings(tmp_path: Path) -> None:
    def hangs() -> Iterator[Row]:
        yield Row("one figure", 1.5, "ms")
        while True:
            pass

    checked = report(tmp_path)
    checked.run("hangs", hangs, seconds=0.2)
    (stored,) = load_all(tmp_path)
    assert stored.sections[0].error.startswith("TimeIsOverError")
    assert [row.value for row in stored.sections[0].rows] == [1.5]


def test_the_table_stays_short(tmp_path: Path) -> None:
    checked = report(tmp_path)
    checked.run("long", lambda: iter([Row(f"row {number}", float(number)) for number in range(200)]))
    lines = checked.table().splitlines()
    assert len(lines) == TABLE_LINES
    assert "142 more" in lines[-1]
