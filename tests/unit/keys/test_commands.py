"""What an operator of keys types and reads."""

from pathlib import Path

import pytest

from app.cli import main
from app.keys.book import KeyBook

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.chdir(tmp_path)  # no `.env` of the checkout
    file = tmp_path / "keys"
    monkeypatch.setenv("API_KEYS_FILE", str(file))
    return file


def state(file: Path, key: str) -> str:
    record = KeyBook(file).find(key)
    return "unknown" if record is None else record.name if record.revoked is None else "revoked"


def test_a_new_key_is_printed_once_and_only_its_hash_is_kept(file: Path, capsys: Captured) -> None:
    assert main(["keys", "add", "blue", "--expires", "2999-01-31"]) == 0
    out, err = capsys.readouterr()
    key = out.strip()
    assert out == f"{key}\n", "nothing else: it can be piped"
    assert len(key) >= 43, "256 bits"
    assert state(file, key) == "blue"
    assert key not in file.read_text()
    assert key not in err
    assert "until 2999-01-31 00:00 UTC" in err
    assert main(["keys", "add", "red"]) == 0
    assert capsys.readouterr().out.strip() != key
    assert main(["keys", "list"]) == 0
    assert key not in capsys.readouterr().out


def test_a_key_that_has_expired_already_is_made_with_a_warning(file: Path, capsys: Captured) -> None:
    assert main(["keys", "add", "old", "--expires", "2024-01-31"]) == 0
    assert "No server accepts this key: it expired at 2024-01-31 00:00 UTC" in capsys.readouterr().err
    assert main(["keys", "add", "dated", "--expires", "2999-01-31"]) == 0
    assert "No server" not in capsys.readouterr().err


def test_a_revoked_key_has_ended_and_every_other_line_is_as_it_was(file: Path, capsys: Captured) -> None:
    file.write_text("# teams\n\nblue: plain-key \nred:other-key\n")
    assert main(["keys", "revoke", "blue"]) == 0
    assert "The key of blue was revoked at " in capsys.readouterr().err
    assert (state(file, "plain-key"), state(file, "other-key")) == ("revoked", "red")
    lines = file.read_text().split("\n")
    assert (lines[:2], lines[3:]) == (["# teams", ""], ["red:other-key", ""])
    assert "plain-key" not in file.read_text()
    before = file.read_text()
    assert main(["keys", "revoke", "blue"]) == 0
    assert file.read_text() == before, "it stays revoked at its first time"


def test_the_list_says_in_which_state_each_key_is(
    file: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("plain-one:secret\n")
    for name, more in {
        "lasting": [],
        "dated": ["--requests", "3", "--log-content", "off", "--expires", "2999-01-31T18:00"],
        "old": ["--prompt-tokens", "900", "--log-content", "full", "--expires", "2024-01-31"],
    }.items():
        assert main(["keys", "add", name, *more]) == 0
    assert main(["keys", "revoke", "lasting"]) == 0
    monkeypatch.setenv("LOG_CONTENT", "redacted")
    capsys.readouterr()
    assert main(["keys", "list"]) == 0
    out = capsys.readouterr().out
    rows = {row.split()[0]: " ".join(row.split()[1:]) for row in out.splitlines()[1:]}
    assert rows["plain-one"] == "plain share share redacted never"
    assert rows["lasting"].startswith("revoked 2")
    assert rows["dated"] == "active 3 share off 2999-01-31 18:00 UTC"
    assert rows["old"] == "expired share 900 redacted 2024-01-31 00:00 UTC"
    assert "secret" not in out


def test_another_file_can_be_named(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert main(["keys", "add", "blue", "--file", str(other)]) == 0
    assert other.exists()
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", "blue"], "has a key of the name blue"),
        (["revoke", "red"], "has no key of the name red"),
        (["list", "--file", "none"], "none cannot be read"),
        (["add", "red", "--file", "wrong"], "wrong, line 1"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(
    file: Path, tmp_path: Path, capsys: Captured, arguments: list[str], said: str
) -> None:
    (tmp_path / "wrong").write_text("no key here\n")
    assert main(["keys", "add", "blue"]) == 0
    before = file.read_text()
    capsys.readouterr()
    assert main(["keys", *arguments]) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""
    assert file.read_text() == before
    assert (tmp_path / "wrong").read_text() == "no key here\n"


def test_without_any_file_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.delenv("API_KEYS_FILE")
    assert main(["keys", "list"]) == 1
    assert "--file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["a:b"], ["two words"], [""], ["blue", "--expires", "soon"], ["blue", "--requests", "0"]]
)
def test_a_wrong_command_line(file: Path, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["keys", "add", *arguments])
    assert end.value.code == 2
    assert not file.exists()
