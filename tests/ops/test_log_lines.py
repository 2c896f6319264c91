"""`make logs`: the services' lines for people, on a terminal that nothing in them may control."""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack import __main__ as stack_main
from stack.config import load_config
from stack.log_format import readable
from stack.native.follow import follow_files
from stack.native.stack import NativeStack

ACTING = ["\x1b", "\x9b", "\x7f", "\r", "\u202e", "\u2066", "\U000e0041", "\ud800", "\ue000"]


def test_a_request_is_one_line_for_people() -> None:
    line = json.dumps({"timestamp": "2026-01-02T03:04:05Z", "level": "info", "event": "request", "prompt": "a\nb"})
    assert readable("app", line, colour=False) == '03:04:05 app            info     request prompt="a\\nb"'


def test_prometheus_lines_are_understood() -> None:
    line = 'ts=2026-01-02T03:04:05.678Z caller=main.go:1 level=warn msg="it is late" by=3s'
    assert readable("prometheus", line, colour=False) == "03:04:05 prometheus     warn     it is late by=3s"


def test_anything_else_stays_as_it_is() -> None:
    assert readable("app", "{ not json", colour=False).endswith("app            { not json")


@pytest.mark.parametrize("character", ACTING)
@pytest.mark.parametrize("field", ["event", "level", "prompt", "exception", "timestamp"])
def test_nothing_acts_on_the_terminal(field: str, character: str) -> None:
    text = f"12:00:00{character}[2Jé"
    for line in (json.dumps({field: text}), json.dumps({field: [text]}), text):
        shown = readable("app", line, colour=False)
        assert shown.replace("\n", "").isprintable()
        shown.encode()


def test_what_is_escaped_can_be_read() -> None:
    line = json.dumps({"event": "a\nb", "prompt": "\x9b2J\u202e你"})
    assert readable("app", line, colour=False).endswith("a\\nb prompt=\\u009b2J\\u202e你")


def test_an_exception_forges_no_line() -> None:
    forged = "12:00:00 nginx          info     access status=200"
    line = json.dumps({"event": "request", "exception": f"ValueError: a\n{forged}\u2028{forged}\r{forged}"})
    _, *cause = readable("app", line, colour=False).splitlines()
    assert [row[:11] for row in cause] == ["         | "] * 2


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("text", ["x" * 500, "你" * 300, "e\u0301\x9b" * 200])
def test_rows_fit_the_terminal(text: str, width: int) -> None:
    fields = {"event": text, "prompt": text, "exception": f"first\n{text}"}
    for line in (json.dumps({"level": "error", **fields}), json.dumps({"prompt": text}), text):
        for row in readable("app", line, colour=True, width=width).split("\n"):
            plain = re.sub(r"\x1b\[\d+m", "", row)
            assert sum(0 if c == "\u0301" else 2 if c == "你" else 1 for c in plain) <= width


def test_a_message_is_whole_on_a_narrow_terminal_and_the_status_is_seen() -> None:
    line = json.dumps({"prompt": "p" * 100, "status": 503, "event": "cannot start: " + "y" * 100})
    shown = readable("app", line, colour=False, width=80)
    assert shown.count("y") == 100
    assert " status=503" in shown


def test_make_logs_fits_the_terminal_that_it_runs_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Running:
        def log_lines(self, **_: object) -> Iterator[tuple[str, str]]:
            yield "app", json.dumps({"event": "request", "prompt": "word " * 100})

    monkeypatch.setattr(stack_main, "_running", lambda _: Running())
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "70")
    stack_main.logs(load_config({}, Path(os.devnull)))
    (row,) = capsys.readouterr().out.splitlines()
    assert len(re.sub(r"\x1b\[\d+m", "", row)) == 70


def test_a_carriage_return_begins_no_line(tmp_path: Path) -> None:
    stack = NativeStack(load_config({"STATE_DIR": str(tmp_path)}, Path(os.devnull)))
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "app.log").write_bytes(b"one\rline\nnext\n")
    assert list(stack.log_lines(follow=False)) == [("app", "one\rline"), ("app", "next")]


def test_files_are_followed_through_rotation(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.write_text("old\nlast\n")
    lines = follow_files({"app": log}, tail=1)
    assert next(lines) == ("app", "last")
    log.rename(tmp_path / "app.log.1")
    log.write_text("after the rotation\n")
    assert next(lines) == ("app", "after the rotation")
    lines.close()  # type: ignore[attr-defined]  # a generator
