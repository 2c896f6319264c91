"""Requests on a terminal: figures are whole, and lines fit."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from app.logs.source import requests
from app.logs.table import aligned, requests_table


@pytest.mark.parametrize("width", [80, 109, 110, 200])
def test_figures_are_whole_and_lines_fit_on_any_terminal(log: Path, width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    lines = list(requests([log]))
    console.print(requests_table(lines, console))
    table = console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    followed = [aligned(None, width).plain, *(aligned(line, width).plain for line in lines)]
    for shown in (table.splitlines(), followed):
        assert [line for line in shown if len(line.rstrip()) > width] == []
        (slow,) = (line.split() for line in shown if "bbbb-slow" in line)
        assert "9.0" in slow
        assert "red" in slow
