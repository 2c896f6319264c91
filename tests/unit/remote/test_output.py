"""Text and calls of another server, as a client gets them."""

from app.contract.events import TextEvent, ToolCallEvent
from app.contract.requests import GenerationRequest, LineLimits, Operation, SamplingParams
from app.remote.answer_reader import NewText
from app.remote.output import RemoteOutput


def output(*stop: str, lines: LineLimits = LineLimits()) -> RemoteOutput:  # noqa: B008  # frozen
    return RemoteOutput(
        GenerationRequest(id="r", operation=Operation.CHAT, sampling=SamplingParams(seed=1), stop=stop, lines=lines)
    )


def text(piece: str) -> NewText:
    return NewText(piece, (), (), 1)


def call(arguments: str, name: str | None = None) -> NewText:
    return NewText("", (ToolCallEvent(0, arguments, name and "id", name),), (), 1)


def test_a_stop_string_that_the_server_lets_through_ends_the_text() -> None:
    out = output("END")
    assert out.push(text("one E")) == [TextEvent("one ")]
    assert out.push(text("ND two")) == []
    assert (out.stopped, out.stop_string) == (True, "END")


def test_limits_of_lines_are_kept_here() -> None:
    out = output(lines=LineLimits(least_indent=2))
    pieces = [*out.push(text("  a\n")), *out.push(text("  b\nc")), *out.flush()]
    assert "".join(piece.text for piece in pieces if isinstance(piece, TextEvent)) == "  a\n  b\n"
    assert out.stopped


def test_text_that_is_held_back_comes_before_a_call() -> None:
    out = output("END")
    assert out.push(text("one E")) == [TextEvent("one ")]
    first = call("", "f")
    assert out.push(first) == [TextEvent("E"), first.calls[0]]


def test_calls_are_whole_when_their_arguments_are_objects() -> None:
    out = output()
    assert not out.whole_calls
    out.push(call('{"a": ', "f"))
    assert not out.whole_calls
    out.push(call("1}"))
    assert out.whole_calls
