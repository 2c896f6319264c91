"""What an operator asks of the log, and reads."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.cli import main
from app.contract.requests import Message
from tests.support.events import ANSWERED, REQUEST
from tests.unit.logs.conftest import EVENTS, Write, named

Captured = pytest.CaptureFixture[str]
Ask = Callable[..., str]


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)  # no `.env` of the checkout
    monkeypatch.delenv("STATE_DIR", raising=False)


@pytest.fixture
def ask(log: Path, capsys: Captured) -> Ask:
    def ask(*arguments: str, code: int = 0) -> str:
        assert main(["logs", *arguments, "--file", str(log)]) == code
        out, err = capsys.readouterr()
        return out if code == 0 else err

    return ask


def ids(listed: str) -> list[str]:
    return [json.loads(line)["request_id"] for line in listed.splitlines()]


def test_every_request_is_a_line_and_nothing_else_is(ask: Ask) -> None:
    assert ids(ask("list", "--json")) == [event.id for event in EVENTS]
    lines = ask("list").splitlines()
    assert len(lines) == 1 + len(EVENTS)
    assert "aaaa-quick" in lines[1]
    assert "second question" in lines[1]
    assert "overloaded: The server is full." in lines[4]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--key", "red"], ["bbbb-slow", "cccc-left"]),
        (["--key", "anna"], ["eeee-bad"]),
        (["--id", "ffff"], ["ffff-broken"]),
        (["--status", "4xx"], ["cccc-left", "dddd-refused", "eeee-bad"]),
        (["--status", "429"], ["dddd-refused"]),
        (["--errors"], ["cccc-left", "dddd-refused", "eeee-bad", "ffff-broken"]),
        (["--path", "/"], ["eeee-bad"]),
        (["--since", "2027-01-31T18:34"], ["eeee-bad", "ffff-broken"]),
        (["--until", "2027-01-31T18:30:55"], ["aaaa-quick", "bbbb-slow"]),
        (["--slowest", "1"], ["bbbb-slow"]),
        (["--last", "2"], ["eeee-bad", "ffff-broken"]),
        (["--since", "1d", "--last", "1"], ["ffff-broken"]),
    ],
)
def test_requests_are_found_by_what_is_known_of_them(ask: Ask, arguments: list[str], found: list[str]) -> None:
    assert ids(ask("list", "--json", *arguments)) == found


@pytest.mark.parametrize("arguments", [("--last", "0"), ("--slowest", "-1"), ("--since", "99999999999999h")])
def test_what_cannot_be_meant_is_refused(log: Path, arguments: tuple[str, str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["logs", "list", "--file", str(log), *arguments])
    assert ended.value.code == 2


def test_odd_lines_do_not_break_what_is_asked_of_others(log: Path, capsys: Captured) -> None:
    good = next(text for text in log.read_text().splitlines() if "bbbb-slow" in text)
    odd = [
        json.loads(good) | {"request_id": "odd-zone", "timestamp": "2027-01-31T18:31:00"},
        json.loads(good) | {"request_id": "odd-year", "timestamp": "0001-01-01T00:00:00Z"},
        *(json.loads(good) | {"request_id": f"odd-{value}", "duration_s": value} for value in (1e30, -1e30)),
    ]
    with log.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in odd)
        file.write(good.replace('"duration_s": 9.0', '"duration_s": Infinity').replace("bbbb", "infi") + "\n")
    for command in (
        ["list", "--since", "2027-01-31T18:00"],
        ["show", "bbbb"],
        ["show", "odd-zone"],
        ["show", "infi"],
    ):
        assert main(["logs", *command, "--file", str(log)]) == 0
        assert capsys.readouterr().out


def test_a_request_is_read_as_a_conversation_with_its_stages(ask: Ask) -> None:
    shown = ask("show", "bbbb")
    order = ["You are brief.", "first question", "first answer", "second question", "second answer"]
    assert sorted(order, key=shown.index) == order
    for stage in ("prepare", "grammar", "queue", "prefill", "decode"):
        assert stage in shown
    assert "0 requests ran beside it" in shown


def test_what_ran_beside_it_is_told(write: Write, capsys: Captured) -> None:
    file = write(
        [
            named(ANSWERED, "one-x", duration=100.0, first_step=3, last_step=20),
            named(ANSWERED, "two-x", duration=100.0, first_step=11, last_step=30),
            named(ANSWERED, "three-x", duration=100.0, first_step=31, last_step=40),
        ]
    )
    assert main(["logs", "show", "two", "--file", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "2 requests ran beside it" in shown
    assert "40.0 s and    10 steps together  one-x" in shown
    assert "40.0 s and     0 steps together  three-x" in shown


def test_a_failure_is_read_with_its_cause(ask: Ask) -> None:
    assert "device-side assert" in ask("show", "ffff")


def test_a_summary_has_counts_and_percentiles_by_hour_and_key(ask: Ask) -> None:
    found = {each["key"]: each for each in map(json.loads, ask("summary", "--json").splitlines())}
    assert set(found) == {"blue", "red", "anna"}
    assert (found["red"]["requests"], found["red"]["left"], found["red"]["refused"]) == (2, 1, 0)
    assert (found["blue"]["failed"], found["blue"]["refused"]) == (1, 1)
    assert found["red"]["duration"] == [9.0, 9.0, 9.0]
    assert found["red"]["completion_tokens"] == 30
    assert "2027-01-31 18:00" in ask("summary")


def test_prompts_do_nothing_to_a_terminal(write: Write, capsys: Captured) -> None:
    evil = "\x1b[2J\x9b31m\u202eabc\u2028\r\x07 \U000e0041"
    asked = replace(REQUEST, messages=(Message("user", evil),))
    file = write([named(replace(ANSWERED, request=asked, response=evil), "evil")])
    for command in (["list"], ["show", "evil"], ["list", "--json"]):
        assert main(["logs", *command, "--file", str(file)]) == 0
        out = capsys.readouterr().out
        assert "abc" in out
        assert out.replace("\n", "").isprintable()


def test_the_native_stacks_log_is_read_with_what_was_rotated_away(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    logs = tmp_path / "state" / "logs"
    logs.mkdir(parents=True)
    lines = log.read_text().splitlines(keepends=True)
    (logs / "app.log.2").write_text("".join(lines[:5]))
    (logs / "app.log.1").write_text("".join(lines[5:7]))
    (logs / "app.log").write_text("".join(lines[7:]))
    monkeypatch.setenv("STATE_DIR", str(tmp_path / "state"))
    assert main(["logs", "list", "--json"]) == 0
    assert ids(capsys.readouterr().out) == [event.id for event in EVENTS]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["show", "zzzz"], "no request whose id begins with 'zzzz'"), (["show", ""], "several requests")],
)
def test_what_is_not_there_is_said(ask: Ask, arguments: list[str], said: str) -> None:
    assert said in ask(*arguments, code=1)


def test_a_log_that_is_not_there_is_said(tmp_path: Path, capsys: Captured) -> None:
    assert main(["logs", "list", "--file", str(tmp_path / "none.log")]) == 1
    assert "No such file" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--status", "teapot"], ["--since", "yesterday"]])
def test_a_wrong_filter_is_refused(arguments: list[str], capsys: Captured) -> None:
    with pytest.raises(SystemExit):
        main(["logs", "list", *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_replays_of_what_the_log_does_not_have_are_refused(ask: Ask) -> None:
    assert "no answer" in ask("replay", "dddd", code=1)
    assert os.environ.get("API_KEY") is None
    assert "does not answer" in ask("replay", "aaaa", "--url", "http://127.0.0.1:9", code=1)
