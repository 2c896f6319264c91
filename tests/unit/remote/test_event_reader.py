"""Server-sent events, however their bytes are cut."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.remote import event_reader
from app.remote.event_reader import EventReader, EventTooLong

STREAM = (
    b': a comment\n\nevent: name\ndata: {"a": 1}\n\ndata:no space\r\n\r\n'
    b"data: two\ndata: lines\n\ndata: \xe2\x80\xa8 \xc2\x85 are no line ends\n\nid: 4\n\ndata: [DONE]\n\n"
)
EVENTS = [b'{"a": 1}', b"no space", b"two\nlines", b"\xe2\x80\xa8 \xc2\x85 are no line ends", b"[DONE]"]


@given(st.lists(st.integers(0, len(STREAM))))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    reader, bounds = EventReader(), [0, *sorted(cuts), len(STREAM)]
    found = [event for begin, end in pairwise(bounds) for event in reader.push(STREAM[begin:end])]
    assert found == EVENTS
    assert reader.flush() == []


def test_the_end_of_the_stream_ends_an_event() -> None:
    reader = EventReader()
    assert reader.push(b"data: whole\n\ndata: cut") == [b"whole"]
    assert reader.flush() == [b"cut"]


@pytest.mark.parametrize("piece", [b"data: " + b"x" * 64, b"data: xxxxxxxxxxxxxxxx\n"])
def test_an_event_is_bounded(monkeypatch: pytest.MonkeyPatch, piece: bytes) -> None:
    monkeypatch.setattr(event_reader, "MOST_BYTES", 64)
    reader = EventReader()
    with pytest.raises(EventTooLong):
        [reader.push(piece) for _ in range(10)]
