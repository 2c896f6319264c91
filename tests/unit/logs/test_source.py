"""Lines that are still to come."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from app.logs.line import RequestLine
from app.logs.source import followed
from tests.support.patience import PATIENCE


def line(identity: str) -> str:
    return f'{{"event": "request", "request_id": "{identity}", "timestamp": "2027-01-31T18:30:00Z"}}\n'


def test_what_is_written_from_now_on_comes_also_from_the_files_successor(tmp_path: Path) -> None:
    file = tmp_path / "app.log"
    file.write_text(line("before"))
    heard: queue.Queue[RequestLine] = queue.Queue()

    def follow() -> None:
        for each in followed(file):
            heard.put(each)

    threading.Thread(target=follow, daemon=True).start()
    first = until_heard(heard, lambda: append(file, line("one")))
    assert first.id == "one", "not what was there before"
    file.rename(tmp_path / "app.log.1")
    file.write_text(line("two"))
    assert next(each.id for each in iter(lambda: heard.get(timeout=PATIENCE), None) if each.id != "one") == "two"
    append(file, line("three")[:20])
    append(file, line("three")[20:])
    assert heard.get(timeout=PATIENCE).id == "three", "one line, although it came in two parts"


def append(file: Path, text: str) -> None:
    with file.open("a") as log:
        log.write(text)


def until_heard(heard: "queue.Queue[RequestLine]", write: Callable[[], None]) -> RequestLine:
    """Writes again and again, because nobody says when the file was opened."""
    for _ in range(round(PATIENCE / 0.2)):
        write()
        try:
            return heard.get(timeout=0.2)
        except queue.Empty:
            continue
    raise AssertionError("nothing was heard")
