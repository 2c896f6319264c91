"""When the keys file is looked at again."""

import json
import os
from pathlib import Path

import pytest

from app.contract.telemetry import Event, KeysRead
from app.keys.book import LOOK_SECONDS, KeyBook
from app.keys.record import hash_of


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text("blue:one\n")
    return file


def test_the_file_is_looked_at_again_after_a_while_and_not_for_each_request(file: Path) -> None:
    clock = Clock()
    book = KeyBook(file, clock=clock)
    file.write_text("blue:two\n")
    clock.now += LOOK_SECONDS * 0.9
    assert book.find("two") is None
    clock.now += LOOK_SECONDS * 0.1
    found = book.find("two")
    assert found is not None
    assert found.name == "blue"
    assert book.find("one") is None


def test_a_file_of_the_same_size_and_time_is_another_one_when_it_was_replaced(file: Path, tmp_path: Path) -> None:
    clock = Clock()
    book = KeyBook(file, clock=clock)
    new, about = tmp_path / "new", file.stat()
    new.write_text("blue:two\n")
    os.utime(new, ns=(about.st_atime_ns, about.st_mtime_ns))
    new.replace(file)
    clock.now += LOOK_SECONDS
    assert book.find("two") is not None


def test_the_observers_are_told_that_the_file_became_unusable_and_usable_again(file: Path) -> None:
    told: list[Event] = []

    class Listener:
        def notify(self, event: Event) -> None:
            told.append(event)

    clock = Clock()
    book = KeyBook(file, Listener(), clock)
    for content in ("no key\n", "no key\n", "blue:two\n"):
        if file.read_text() != content:
            file.write_text(content)
        clock.now += LOOK_SECONDS
        assert (book.find("one") is None) == ("two" in content)
    read = [KeysRead(outdated=False, names=(name,)) for name in ("blue", "blue")]
    assert told == [read[0], KeysRead(outdated=True), read[1]]


def test_a_request_whose_key_goes_while_its_body_comes_keeps_the_keys_terms(file: Path) -> None:
    clock = Clock()
    file.write_text(json.dumps({"name": "quiet", "sha256": hash_of("one"), "log_content": "off"}))
    book = KeyBook(file, clock=clock)
    file.write_text("other:two\n")
    clock.now += LOOK_SECONDS
    assert book.find("one") is None
    assert book.terms("quiet").log_content == "off"
    assert book.terms("other").log_content is None


def test_without_a_file_no_key_is_required() -> None:
    book = KeyBook(None)
    assert not book.required
    assert book.find("any") is None
