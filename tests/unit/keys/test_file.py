"""The file of keys: what is read, and what a change leaves as it was."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.keys.file import KeysFileError, Line, append, as_line, changing, parse, read, records
from app.keys.record import KeyRecord, hash_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\n"))
NAMES = st.text(st.characters(codec="utf-8", categories=("L", "N"), include_characters="-_. "), min_size=1).filter(
    lambda name: name == name.strip() != ""
)
TIMES = st.datetimes(timezones=st.just(UTC)) | st.none()


@st.composite
def files(draw: st.DrawFn) -> tuple[str, list[str]]:
    """The text of a usable file, and its names."""
    names = draw(st.lists(NAMES, unique=True, max_size=6))
    lines = []
    for name in names:
        hashed = KeyRecord(name=name, sha256=hash_of(name), expires=draw(TIMES), revoked=draw(TIMES))
        plain = f"{draw(st.sampled_from(['', ' ']))}{name} : {name}{draw(st.sampled_from(['', chr(13)]))}"
        lines.append(draw(st.sampled_from([plain, as_line(hashed).text])))
        lines += draw(st.lists(TEXT.map("#{}".format) | st.sampled_from(["", "  ", "\r"]), max_size=2))
    return "\n".join(lines) + draw(st.sampled_from(["", "\n"])), names


@given(files())
def test_lines_are_kept_as_they_are_written(file: tuple[str, list[str]]) -> None:
    text, names = file
    lines = parse(text)
    assert "\n".join(line.text for line in lines) == text
    assert [(record.name, record.sha256) for record in records(lines)] == [(name, hash_of(name)) for name in names]


@given(files(), st.integers(1) | st.none(), TIMES, TIMES)
def test_a_key_that_is_appended_is_read_again_and_no_other_line_changes(
    file: tuple[str, list[str]], limit: int | None, expires: datetime | None, revoked: datetime | None
) -> None:
    lines = parse(file[0])
    new = KeyRecord(name=":new:", sha256=hash_of("new key"), requests=limit, expires=expires, revoked=revoked)
    append(lines, new)
    text = "\n".join(line.text for line in lines)
    assert text.startswith(file[0])
    assert text.endswith("\n")
    assert records(parse(text)) == [*records(parse(file[0])), new]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nokey", "line 1: expected"),
        ("#\na:secret\na:other", "line 3: its name is that of line 2"),
        ("a:secret\nb:secret", "line 2: its key is that of line 1"),
        (f'a:secret\n{{"name": "b", "sha256": "{hash_of("secret")}"}}', "line 2: its key is that of line 1"),
        ('{"name": "a", "sha256": "secret"}', "line 1: sha256: "),
        ('{"name": "secret"', "line 1: Invalid JSON"),
        ('{"name": "a", "expires": "secret"}', "line 1: sha256: Field required"),
    ],
)
def test_a_wrong_line_is_named_and_not_quoted(text: str, message: str) -> None:
    with pytest.raises(KeysFileError, match=message) as error:
        parse(text)
    assert "secret" not in str(error.value)


class TestChanging:
    def test_a_new_file_is_for_its_owner_alone(self, tmp_path: Path) -> None:
        with changing(tmp_path / "keys") as lines:
            append(lines, KeyRecord(name="a", sha256=hash_of("k")))
        assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o600
        assert [record.name for record in records(read(tmp_path / "keys"))] == ["a"]

    def test_an_old_one_keeps_its_mode_its_owner_and_its_link(self, tmp_path: Path) -> None:
        real, link = tmp_path / "real", tmp_path / "link"
        real.write_text("a:k\n")
        real.chmod(0o640)
        link.symlink_to(real)
        if os.geteuid() == 0:
            os.chown(real, 10001, 10002)
        before = real.stat()
        with changing(link) as lines:
            append(lines, KeyRecord(name="b", sha256=hash_of("l")))
        after = real.stat()
        assert link.is_symlink()
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino, "replaced, never half written"
        assert {path.name for path in tmp_path.iterdir()} == {"real", "link"}, "nothing is left over"

    def test_an_error_in_between_changes_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        file.write_text("a:k\n")

        def fail() -> None:
            with changing(file) as lines:
                lines[0] = Line("# gone")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        assert file.read_text() == "a:k\n"
        assert list(tmp_path.iterdir()) == [file]

    def test_where_there_is_no_folder_the_error_says_so(self, tmp_path: Path) -> None:
        with (
            pytest.raises(KeysFileError, match=r"cannot be changed: .*No such file"),
            changing(tmp_path / "no" / "keys"),
        ):
            raise AssertionError

    def test_changes_at_once_lose_nothing(self, tmp_path: Path) -> None:
        file = tmp_path / "keys"
        program = (
            "import sys; from pathlib import Path; from app.keys.file import append, changing;"
            "from app.keys.record import KeyRecord, hash_of\n"
            "print('ready', flush=True); sys.stdin.readline()\n"
            "for number in range(30):\n"
            "    name = f'{sys.argv[2]}-{number}'\n"
            "    with changing(Path(sys.argv[1])) as lines:\n"
            "        append(lines, KeyRecord(name=name, sha256=hash_of(name)))\n"
        )
        pipe = subprocess.PIPE
        running = [
            subprocess.Popen([sys.executable, "-c", program, file, name], stdin=pipe, stdout=pipe) for name in "abc"
        ]
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for process in running:
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.flush()
        for process in running:
            process.communicate()
            assert process.returncode == 0
        names = {record.name for record in records(read(file))}
        assert names == {f"{name}-{number}" for name in "abc" for number in range(30)}
