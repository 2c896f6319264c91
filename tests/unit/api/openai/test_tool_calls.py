"""Tool calls, whole and in pieces, as the official package reads them."""

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from app.api.openai.chat import ChatWriter
from app.api.openai.header import counts
from app.api.openai.responses import Header
from app.contract.events import Finished, FinishReason, Piece, TextEvent, Timings, ToolCallEvent, Usage
from tests.support.official_types import read_as

HEADER: Header = {"id": "chatcmpl-1", "created": 1, "model": "served", "system_fingerprint": "fp_1"}
FINISHED = Finished(FinishReason.TOOL_CALLS, Usage(5, 9), Timings())
CALLS: list[Piece] = [
    ToolCallEvent(0, "", "call_1", "weather"),
    ToolCallEvent(0, '{"city": '),
    ToolCallEvent(0, '"Oslo"}'),
    ToolCallEvent(1, "{}", "call_2", "time"),
]


def whole(pieces: list[Piece]) -> ChatCompletion:
    writer = ChatWriter(None)
    end = counts(FINISHED.usage, FINISHED.timings, 1)
    return read_as(ChatCompletion, writer.completion(HEADER, [writer.whole(0, pieces, FINISHED)], end))


def chunks(pieces: list[Piece]) -> list[ChatCompletionChunk]:
    writer = ChatWriter(None)
    written = [
        writer.first(0),
        *(writer.piece(0, piece) for piece in pieces),
        writer.last(0, FINISHED),
    ]
    return [read_as(ChatCompletionChunk, writer.chunk(HEADER, [choice])) for choice in written]


def test_whole_calls() -> None:
    (choice,) = whole(CALLS).choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert choice.message.tool_calls is not None
    assert [call.model_dump() for call in choice.message.tool_calls] == [
        {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"id": "call_2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]


def test_text_before_a_call_stays() -> None:
    assert whole([TextEvent("Let me see."), *CALLS]).choices[0].message.content == "Let me see."


def test_the_chunks_together_are_the_whole() -> None:
    pieces = [TextEvent("Let me see."), *CALLS]
    state = ChatCompletionStreamState()
    for chunk in chunks(pieces):
        state.handle_chunk(chunk)
    streamed = state.get_final_completion().choices[0]
    expected = whole(pieces).choices[0]
    assert streamed.finish_reason == expected.finish_reason
    assert streamed.message.content == expected.message.content
    assert [(c.id, c.function.name, c.function.arguments) for c in streamed.message.tool_calls or []] == [
        (c.id, c.function.name, c.function.arguments)
        for c in expected.message.tool_calls or []
        if c.type == "function"
    ]
