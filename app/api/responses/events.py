"""The events of a stream of `/v1/responses`, with OpenAI's names and fields."""

from typing import Any, Literal

from typing_extensions import TypedDict

from app.api.responses.objects import OutputItem, OutputText, ResponseObject


class _Event(TypedDict):
    sequence_number: int


Changed = Literal[
    "response.created", "response.in_progress", "response.completed", "response.incomplete", "response.failed"
]
"""The first two events, and the three that can be the last one."""


class ResponseChanged(_Event):
    type: Changed
    response: ResponseObject


class ItemChanged(_Event):
    type: Literal["response.output_item.added", "response.output_item.done"]
    output_index: int
    item: OutputItem


class PartChanged(_Event):
    type: Literal["response.content_part.added", "response.content_part.done"]
    item_id: str
    output_index: int
    content_index: Literal[0]
    part: OutputText


class TextDelta(_Event):
    type: Literal["response.output_text.delta"]
    item_id: str
    output_index: int
    content_index: Literal[0]
    delta: str
    logprobs: list[Any]


class TextDone(_Event):
    type: Literal["response.output_text.done"]
    item_id: str
    output_index: int
    content_index: Literal[0]
    text: str
    logprobs: list[Any]


class ArgumentsDelta(_Event):
    type: Literal["response.function_call_arguments.delta"]
    item_id: str
    output_index: int
    delta: str


class ArgumentsDone(_Event):
    type: Literal["response.function_call_arguments.done"]
    item_id: str
    output_index: int
    arguments: str


ResponseEvent = ResponseChanged | ItemChanged | PartChanged | TextDelta | TextDone | ArgumentsDelta | ArgumentsDone
EVENTS = (ResponseChanged, ItemChanged, PartChanged, TextDelta, TextDone, ArgumentsDelta, ArgumentsDone)
