"""Text with calls in it, cut into pieces at any place."""

import json

import pytest

from app.contract.events import ServiceEvent, TextEvent, TokenEvent, ToolCallEvent
from app.contract.requests import ToolCall
from app.serving.tools.format import call_text
from app.serving.tools.stream import ToolParser
from tests.support.tools import calls_of

FIRST = ToolCall("", "get_weather", json.dumps({"city": 'one " }] and \\', "deep": {"list": [[], {}]}}))
SECOND = ToolCall("", "add", "{}")
TEXT = f"a < b and <tool, then <b>:\n{call_text(FIRST)}\n{call_text(SECOND)}"


def read(text: str, size: int, stop: tuple[str, ...] = ()) -> tuple[ToolParser, list[ServiceEvent]]:
    stream = ToolParser(stop)
    events: list[ServiceEvent] = []
    for number, at in enumerate(range(0, len(text), size)):
        events += stream.push(TextEvent(text[at : at + size], (TokenEvent(number),)))
    return stream, [*events, *stream.flush()]


def words(events: list[ServiceEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextEvent))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 1000])
def test_words_and_calls_are_told_apart(size: int) -> None:
    stream, events = read(TEXT, size)
    assert words(events) == "a < b and <tool, then <b>:\n"
    assert [(call.name, call.arguments) for call in calls_of(events)] == [
        ("get_weather", FIRST.arguments),
        ("add", SECOND.arguments),
    ]
    assert stream.whole_calls
    ids = [call.id for call in calls_of(events)]
    assert len(set(ids)) == 2
    assert all(one.startswith("call_") for one in ids)


def test_arguments_come_as_they_are_written() -> None:
    stream = ToolParser(())
    stream.push(TextEvent('<tool_call>\n{"name": "f", "arguments": {"a'))
    events = stream.push(TextEvent('": "b')) + stream.push(TextEvent("c"))
    assert [event.arguments for event in events if not isinstance(event, TextEvent)] == ['": "b', "c"]


def test_words_that_may_become_a_call_wait_and_come_out_in_the_end() -> None:
    stream = ToolParser(())
    (shown,) = stream.push(TextEvent("x <tool_c"))
    assert isinstance(shown, TextEvent)
    assert shown.text == "x "
    assert words(list(stream.flush())) == "<tool_c"


def text_of_calls(*arguments: str) -> str:
    return "\n".join(call_text(ToolCall("", "add", text)) for text in arguments)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_repeated_call_ends_the_answer_and_nothing_of_it_comes_out(size: int) -> None:
    stream, events = read(text_of_calls('{"a": 1}', '{"a": 12}', '{"a": 1}', '{"a": 3}'), size)
    assert [call.arguments for call in calls_of(events)] == ['{"a": 1}', '{"a": 12}']
    assert stream.stopped
    assert stream.whole_calls


def test_another_functions_call_is_no_repetition() -> None:
    calls = [ToolCall("", name, "{}") for name in ("add", "adder", "ad")]
    stream, events = read("\n".join(map(call_text, calls)), 1)
    assert [call.name for call in calls_of(events)] == ["add", "adder", "ad"]
    assert not stream.stopped


def test_a_call_comes_out_as_soon_as_it_differs() -> None:
    stream, _ = read(text_of_calls('{"a": "one two"}'), 5)
    same = '\n<tool_call>\n{"name": "add", "arguments": {"a": "one '
    assert stream.push(TextEvent(same, (TokenEvent(7),))) == []
    pieces = stream.push(TextEvent("m", (TokenEvent(8),)))
    (call,) = calls_of([ToolCallEvent(0, "", "call_0", "add"), *pieces])[1:]
    assert call.arguments == '{"a": "one m'
    assert [token.token for piece in pieces for token in piece.tokens][-2:] == [7, 8]
    assert stream.push(TextEvent('ore"')) == [ToolCallEvent(1, 'ore"')]


@pytest.mark.parametrize("size", [1, 4])
def test_calls_are_whole_until_something_of_another_one_comes_out(size: int) -> None:
    text = text_of_calls('{"a": 1}', '{"a": 2}')
    for length in range(1, len(text)):
        stream, events = read(text[:length], size)
        arguments = [call.arguments for call in calls_of(events)]
        assert stream.whole_calls == (arguments in (['{"a": 1}'], ['{"a": 1}', '{"a": 2}']))


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_stop_strings_end_words_and_never_a_call(size: int) -> None:
    _, events = read(TEXT, size, stop=("city", "]", "add"))
    assert [call.arguments for call in calls_of(events)] == [FIRST.arguments, SECOND.arguments]
    stream, events = read(TEXT, size, stop=("then",))
    assert words(events) == "a < b and <tool, "
    assert stream.stopped
    assert not stream.whole_calls


def test_every_token_comes_with_a_piece() -> None:
    _, events = read(f"so:{call_text(FIRST)}", 4)
    tokens = [token.token for event in events for token in event.tokens]  # type: ignore[union-attr]  # no Finished
    assert tokens == list(range(len(tokens)))
    assert len(tokens) >= len(f"so:{call_text(FIRST)}") // 4 - 6  # those of the last brackets have nothing to show


@pytest.mark.parametrize("length", [3, 15, 30, 60, 90, 100])
def test_a_cut_answer_leaves_nothing_but_beginnings(length: int) -> None:
    text = call_text(FIRST)[:length]
    _, events = read(text, 4)
    for call in calls_of(events):
        assert FIRST.arguments.startswith(call.arguments)
    assert "tool_call>" not in words(events)
